/** The edge to Node: clock, randomness, environment, files, HTTP/2, compression, the process's end. */

import { createHash, randomFillSync, X509Certificate } from "node:crypto";
import * as fs from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import * as os from "node:os";
import { createSecureContext } from "node:tls";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { Spool } from "../delivery/spool.js";
import { IngestService } from "../generated/logweir/v1/ingest_pb.js";
import type {
	Channel,
	ChannelOptions,
	Encoding,
	EndListener,
	Platform,
	TlsOptions,
} from "../platform.js";
import { currentTrace } from "../record/current-trace.js";
import { type Compressor, unaryCall } from "./grpc.js";

/** How often an idle connection is checked, and how long its response may take, milliseconds. */
const pingIntervalMs = 10_000;
const pingTimeoutMs = 5_000;
/** Below this compression costs more than it saves, bytes. */
const compressFromBytes = 1 << 10;
/** How PEM frames a certificate. */
const certificateBegin = "-----BEGIN CERTIFICATE-----";
const afterCertificate = /(?<=-----END CERTIFICATE-----)/;
const ingestPath = `/${IngestService.typeName}/${IngestService.method.ingest.name}`;
const nanosecondsPerMillisecond = 1_000_000n;
const stderr = 2;
/**
 * What is sent at the end brings the program back to life, and Node tells its end again. One that logs
 * whenever it is told must end all the same: this is enough for logs made while others are sent.
 */
const roundsMax = 3;

type Compress = (
	bytes: Uint8Array,
	done: (error: Error | null, compressed: Buffer) => void,
) => void;

/** From Node 22.15 on. */
const zstdCompress = (zlib as { zstdCompress?: Compress }).zstdCompress;
const encodings: readonly Encoding[] =
	zstdCompress === undefined ? ["none", "gzip"] : ["none", "gzip", "zstd"];

/** Compression runs on threads of its own. */
function compressorOf(encoding: Encoding): Compressor | undefined {
	const compress = encoding === "zstd" ? zstdCompress : (zlib.gzip as Compress);
	if (encoding === "none" || compress === undefined) {
		return undefined;
	}
	return { name: encoding, compress: promisify(compress), fromBytes: compressFromBytes };
}

function openChannel(address: string, options: ChannelOptions): Channel {
	// A firewall forgets idle connections; the first log after a quiet hour would wait for a timeout.
	const ping = { pingIntervalMs, pingTimeoutMs, pingIdleConnection: true };
	const sessionManager = new Http2SessionManager(address, ping, secureOptions(options.tls));
	const compressor = compressorOf(options.encoding);
	return {
		ingest: (request, headers, signal) =>
			unaryCall(sessionManager, ingestPath, request, headers, signal, compressor),
		async open() {
			const state = await sessionManager.connect();
			return state === "error" ? sessionManager.error() : handshake(sessionManager);
		},
		reset() {
			if (sessionManager.state() === "connecting") {
				sessionManager.abort();
			}
		},
		close: () => sessionManager.abort(),
	};
}

/**
 * Waits for the server's first word, its settings; the cause if none comes. An address that merely takes
 * the connection is no server. The manager gives its session to nobody, and has no other word for this:
 * it is read from a field of its own, and in a version without that field the connection counts as open,
 * until the first batch tells.
 */
export function handshake(manager: Http2SessionManager): Promise<unknown> {
	const session = (manager as unknown as { s?: { conn?: ClientHttp2Session } }).s?.conn;
	if (typeof session?.once !== "function") {
		return Promise.resolve(undefined);
	}
	return new Promise((resolve) => {
		session.once("remoteSettings", () => resolve(undefined));
		session.once("error", resolve);
		session.once("close", () => resolve(new Error("the connection was closed")));
	});
}

function secureOptions(tls: TlsOptions): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
	const read = (file: string | undefined) => (file === undefined ? {} : fs.readFileSync(file));
	return Object.fromEntries(
		Object.entries({
			ca: tls.caFile,
			cert: tls.clientCertificateFile,
			key: tls.clientKeyFile,
		})
			.filter(([, file]) => file !== undefined)
			.map(([name, file]) => [name, read(file)]),
	);
}

function checkTls(tls: TlsOptions): void {
	const options = secureOptions(tls);
	createSecureContext(options);
	if (options.ca !== undefined) {
		checkCertificates(options.ca.toString());
	}
}

/** A secure context passes over a CA that is none, and over all after it, without a word. */
function checkCertificates(text: string): void {
	const certificates = text
		.split(afterCertificate)
		.filter((part) => part.includes(certificateBegin));
	if (certificates.length === 0) {
		throw new Error("the file of the CA has no certificate in PEM");
	}
	for (const certificate of certificates) {
		new X509Certificate(certificate);
	}
}

/** Clients that are told of the process's end, by one listener each of its events. */
const endListeners = new Set<EndListener>();
let rounds = 0;

function beforeEnd(): void {
	if (rounds === roundsMax) {
		return;
	}
	// Counted before the clients are told, who may end the program themselves.
	rounds += 1;
	for (const listener of endListeners) {
		listener.beforeEnd();
	}
}

function atEnd(): void {
	for (const listener of endListeners) {
		listener.atEnd();
	}
}

function onEnd(listener: EndListener): () => void {
	if (endListeners.size === 0) {
		process.on("beforeExit", beforeEnd);
		process.on("exit", atEnd);
	}
	endListeners.add(listener);
	return () => {
		endListeners.delete(listener);
		if (endListeners.size === 0) {
			process.off("beforeExit", beforeEnd);
			process.off("exit", atEnd);
		}
	};
}

export const nodePlatform: Platform = {
	nowUnixNano: () => BigInt(Date.now()) * nanosecondsPerMillisecond,
	now: () => performance.now(),
	randomShare: Math.random,
	randomBytes: (count) => randomFillSync(new Uint8Array(count)),
	sha256: (bytes) => createHash("sha256").update(bytes).digest(),
	allocate: (bytes) => Buffer.allocUnsafeSlow(bytes),
	writeText: (buffer, at, text) => at + (buffer as Buffer).write(text, at),
	environment: (name) => process.env[name],
	readFile: (path) => fs.readFileSync(path, "utf8"),
	hostName: () => os.hostname(),
	processId: () => process.pid,
	encoding: zstdCompress === undefined ? "gzip" : "zstd",
	encodings,
	openChannel,
	checkTls,
	openSpool: (options) => new Spool(options),
	currentTrace,
	printNotice(line) {
		try {
			// At once, also in a worker and at the end.
			fs.writeSync(stderr, `${line}\n`);
		} catch {
			process.stderr.write(`${line}\n`);
		}
	},
	// A program that is about to end is not kept by it: the end itself sends what waits.
	soon: (call) => void setImmediate(call).unref(),
	later: (milliseconds, call) => setTimeout(call, milliseconds).unref(),
	laterForSure: (milliseconds, call) => setTimeout(call, milliseconds),
	clear: (timer) => clearTimeout(timer as NodeJS.Timeout | undefined),
	onEnd,
};
