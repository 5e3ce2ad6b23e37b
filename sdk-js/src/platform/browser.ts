/** The edge to browsers: fetch with gRPC-Web, no files, no environment, and the page's end. */

import { createGrpcWebTransport } from "@connectrpc/connect-web";
import type { Channel, EndListener, Platform } from "../platform.js";
import { ingest } from "./ingest.js";

const nanosecondsPerMillisecond = 1_000_000n;
/** Browsers let requests outlive their page up to 64 KiB in all; the rest is for headers. */
export const keepaliveBytesMax = 60 << 10;
const digestBytes = 32;
const encoder = new TextEncoder();
/** The console as it was before a program's client listened to it. */
const printError = console.error.bind(console);

/** Bytes of requests under way that may outlive the page. */
let keepaliveBytes = 0;

/** A request outlives its page if there is room for it: nobody knows beforehand when a page is left. */
async function fetchBeyondPage(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
	const bytes = (init?.body as Uint8Array | undefined)?.length ?? 0;
	const keepalive = keepaliveBytes + bytes <= keepaliveBytesMax;
	if (!keepalive) {
		return fetch(input, init);
	}
	// The browser refuses a request beyond its limit; without the flag it is sent all the same.
	keepaliveBytes += bytes;
	try {
		return await fetch(input, { ...init, keepalive });
	} finally {
		keepaliveBytes -= bytes;
	}
}

function openChannel(address: string): Channel {
	const transport = createGrpcWebTransport({ baseUrl: address, fetch: fetchBeyondPage });
	return {
		ingest: (request, headers, signal) => ingest(transport, request, headers, signal),
		// A browser opens its connections by itself, and tells nothing of them.
		open: () => new Promise(() => {}),
		reset() {},
		close() {},
	};
}

/** A page that is hidden may never be shown again: what waits is sent at once. */
function onEnd(listener: EndListener): () => void {
	const onHidden = () => {
		if (globalThis.document.visibilityState === "hidden") {
			listener.beforeEnd();
		}
	};
	const onPageHide = () => listener.beforeEnd();
	const { document: page } = globalThis;
	page?.addEventListener("visibilitychange", onHidden);
	globalThis.addEventListener?.("pagehide", onPageHide);
	return () => {
		page?.removeEventListener("visibilitychange", onHidden);
		globalThis.removeEventListener?.("pagehide", onPageHide);
	};
}

function randomBytes(count: number): Uint8Array {
	return crypto.getRandomValues(new Uint8Array(count));
}

function nothing(): undefined {
	return undefined;
}

export const browserPlatform: Platform = {
	nowUnixNano: () => BigInt(Date.now()) * nanosecondsPerMillisecond,
	now: () => performance.now(),
	randomShare: Math.random,
	randomBytes,
	// Nothing outlives the page, so that no other process will ever have to come to the same ids.
	sha256: () => randomBytes(digestBytes),
	allocate: (bytes) => new Uint8Array(bytes),
	writeText: (buffer, at, text) => at + encoder.encodeInto(text, buffer.subarray(at)).written,
	environment: nothing,
	readFile() {
		throw new Error("a browser has no files");
	},
	hostName: () => globalThis.location?.hostname ?? "",
	processId: nothing,
	encoding: "none",
	encodings: ["none"],
	openChannel,
	checkTls() {},
	openSpool() {
		throw new Error("a browser has no disk");
	},
	currentTrace: nothing,
	printNotice: (line) => printError(line),
	soon: (call) => void setTimeout(call),
	later: (milliseconds, call) => setTimeout(call, milliseconds),
	laterForSure: (milliseconds, call) => setTimeout(call, milliseconds),
	clear: (timer) => clearTimeout(timer as number | undefined),
	onEnd,
};
