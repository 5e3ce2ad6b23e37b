/** The W3C header `traceparent` (Trace Context, level 2). Pure. */

/** A place in a trace. */
export interface Trace {
	/** 32 hexadecimal digits. */
	readonly traceId: string;
	/** 16 hexadecimal digits. */
	readonly spanId: string;
	readonly flags: number;
}

const form = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const sampled = 1;
const invalidVersion = "ff";
const firstVersion = "00";
const traceIdBytes = 16;
const allZero = /^0+$/;

/** What a header says; undefined if it is not valid. */
export function parseTraceparent(header: string): Trace | undefined {
	const [, version, traceId = "", spanId = "", flags = "", more] = form.exec(header.trim()) ?? [];
	const isKnownForm = version === firstVersion ? more === undefined : version !== undefined;
	if (!isKnownForm || version === invalidVersion || allZero.test(traceId) || allZero.test(spanId)) {
		return undefined;
	}
	return { traceId, spanId, flags: Number.parseInt(flags, 16) };
}

/** The header that names a place in a trace. */
export function formatTraceparent(trace: Trace): string {
	const flags = trace.flags.toString(16).padStart(2, "0");
	return `${firstVersion}-${trace.traceId}-${trace.spanId}-${flags}`;
}

/** A place within the same trace, with a span id of 8 random bytes. */
export function childOf(trace: Trace, random: Uint8Array): Trace {
	return { ...trace, spanId: hex(random) };
}

/** A trace begun here, of 24 random bytes, sampled. */
export function newTrace(random: Uint8Array): Trace {
	return {
		traceId: hex(random.subarray(0, traceIdBytes)),
		spanId: hex(random.subarray(traceIdBytes)),
		flags: sampled,
	};
}

function hex(bytes: Uint8Array): string {
	return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
