/**
 * What differs between Node and a browser. Everything else takes these as arguments: the clock,
 * randomness, the environment, the network and the disk.
 */

import type { EncodedBatch } from "./delivery/batch.js";
import type { TraceIds } from "./record/encode.js";
import type { WriteText } from "./record/wire.js";

/** Where a batch lies. */
export interface FrameRef {
	segment: number;
	offset: number;
	length: number;
}

/** A batch of a dead process. */
export interface Adopted {
	frame: FrameRef;
	recordCount: number;
}

/** The spool's settings. */
export interface SpoolOptions {
	/** Its root. Processes may share it. */
	directory: string;
	/** Most bytes of one process. 256 MiB. The oldest go first. */
	bytesMax: number;
	/** Longest time a batch waits, milliseconds. 24 h. */
	ageMaxMs: number;
	/**
	 * When writes are forced to disk: `always`, before each batch is sent, survives a power cut;
	 * `interval`, every second, may cost what came since. `kill -9` costs nothing either way.
	 */
	sync: "interval" | "always";
}

/** An open spool. What throws here is counted and told, and the client goes on in memory. */
export interface SpoolFiles {
	readonly damagedRuns: number;
	readonly needsSync: boolean;
	/** Whether this process was taken for dead, and its folder with all that was in it taken over. */
	readonly isTaken: boolean;
	append(batch: EncodedBatch): FrameRef;
	read(frame: FrameRef): EncodedBatch;
	acknowledge(frame: FrameRef): void;
	evict(): number | undefined;
	sync(): Promise<void>;
	renew(): void;
	startOver(): void;
	adopt(take: (adopted: Adopted) => void): Promise<void>;
	close(): void;
}

/** How to speak to `https://` addresses. The files are PEM, and read once. */
export interface TlsOptions {
	/** The CA of the server, in place of the system's. */
	caFile?: string | undefined;
	/** A certificate to show to the server, and its private key. */
	clientCertificateFile?: string | undefined;
	clientKeyFile?: string | undefined;
}

/** How a request may be compressed on this platform. */
export type Encoding = "none" | "gzip" | "zstd";

/** The way to one endpoint. */
export interface Channel {
	/**
	 * Sends a request as it is, and returns the response's message. Throws a `ConnectError` with headers if
	 * a server responded.
	 */
	ingest(
		request: Uint8Array,
		headers: { [name: string]: string },
		signal: AbortSignal,
	): Promise<Uint8Array>;
	/** Opens the connection beforehand, until the server has sent something; the cause if that fails. Undefined where it cannot be. */
	open(): Promise<unknown>;
	/** Gives up a connection that does not come about. */
	reset(): void;
	close(): void;
}

/** What a channel needs to know. */
export interface ChannelOptions {
	encoding: Encoding;
	tls: TlsOptions;
}

/** Told of the end of the program. */
export interface EndListener {
	/** Nothing else keeps the program going: what is under way may be brought to its end. */
	beforeEnd(): void;
	/** The program ends with this call. */
	atEnd(): void;
}

export interface Platform {
	/** Nanoseconds since 1970-01-01 UTC. */
	nowUnixNano(): bigint;
	/** Milliseconds of a clock that never jumps. */
	now(): number;
	/** A random share, 0 up to 1. */
	randomShare(): number;
	randomBytes(count: number): Uint8Array;
	sha256(bytes: Uint8Array): Uint8Array;
	/** A buffer of its own, with anything in it. */
	allocate(bytes: number): Uint8Array;
	writeText: WriteText;
	/** A variable of the environment; undefined if there is none. */
	environment(name: string): string | undefined;
	/** The text of a file; throws if it cannot be read. */
	readFile(path: string): string;
	hostName(): string;
	/** The number of this process; undefined where there is none. */
	processId(): number | undefined;
	/** The strongest compression that costs little. */
	encoding: Encoding;
	encodings: readonly Encoding[];
	openChannel(address: string, options: ChannelOptions): Channel;
	/** Throws if the files of TLS cannot be used. */
	checkTls(tls: TlsOptions): void;
	openSpool(options: SpoolOptions): SpoolFiles;
	/** The trace that the running code belongs to. */
	currentTrace(): TraceIds | undefined;
	/** Writes a line where a person sees it. */
	printNotice(line: string): void;
	/** Calls soon, once the running code has come to its end, without keeping the program going for it. */
	soon(call: () => void): void;
	/** Calls later, without keeping the program going for it. Returns what [clear] takes. */
	later(milliseconds: number, call: () => void): unknown;
	/** As [later], but the program waits for it. */
	laterForSure(milliseconds: number, call: () => void): unknown;
	clear(timer: unknown): void;
	/** Until the returned function is called. */
	onEnd(listener: EndListener): () => void;
}
