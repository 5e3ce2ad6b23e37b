/**
 * The trace that running code belongs to, by `AsyncLocalStorage`: set by [withTrace], and read for each log.
 * OpenTelemetry's current span comes first, where its API is in use.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { randomFillSync } from "node:crypto";
import type { TraceIds } from "./encode.js";
import { childOf, formatTraceparent, newTrace, parseTraceparent, type Trace } from "./trace.js";

/** Shared by all copies of this package in the process, of either module system. */
const storageKey = Symbol.for("@logweir/sdk.trace");
/** Where the API of OpenTelemetry registers itself, and keeps the span within a context. */
const openTelemetryKey = Symbol.for("opentelemetry.js.api.1");
const spanKey = Symbol.for("OpenTelemetry Context Key SPAN");

interface Shared {
	storage: AsyncLocalStorage<Trace>;
	/** Whether there ever was a trace: a program without pays nothing for this. */
	isUsed: boolean;
}

function shared(): Shared {
	const all = globalThis as { [storageKey]?: Shared };
	all[storageKey] ??= { storage: new AsyncLocalStorage<Trace>(), isUsed: false };
	return all[storageKey];
}

const traces = shared();

/** The part of OpenTelemetry's API that is used here. */
interface OpenTelemetry {
	context?: { active(): { getValue(key: symbol): unknown } };
}

/** The trace of the running code; undefined outside of one. */
export function currentTrace(): TraceIds | undefined {
	return openTelemetryTrace() ?? (traces.isUsed ? traces.storage.getStore() : undefined);
}

function openTelemetryTrace(): TraceIds | undefined {
	const api = (globalThis as { [openTelemetryKey]?: OpenTelemetry })[openTelemetryKey];
	if (api?.context === undefined) {
		return undefined;
	}
	const span = api.context.active().getValue(spanKey) as
		| { spanContext?: () => TraceIds }
		| undefined;
	return span?.spanContext?.();
}

/**
 * Runs a function within the trace that a W3C `traceparent` names, or within a new one if there is none
 * or it is not valid. Whatever the function starts, now or later, belongs to it.
 */
export function withTrace<T>(traceparent: string | undefined, run: () => T): T {
	// From now on each log looks for its trace.
	traces.isUsed = true;
	return traces.storage.run(traceOf(traceparent), run);
}

function traceOf(traceparent: string | undefined): Trace {
	const given = traceparent === undefined ? undefined : parseTraceparent(traceparent);
	return given === undefined
		? newTrace(randomFillSync(new Uint8Array(24)))
		: childOf(given, randomFillSync(new Uint8Array(8)));
}

/** The header `traceparent` for a call to another service; undefined outside of a trace. */
export function traceparent(): string | undefined {
	const trace = traces.storage.getStore();
	return trace === undefined ? undefined : formatTraceparent(trace);
}
