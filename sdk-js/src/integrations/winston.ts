/** Logs of winston: `winston.createLogger({ transports: [winstonTransport(client)] })`. */

import { Writable } from "node:stream";
import { Level } from "../record/record.js";
import type { Emitter } from "./console.js";

/** winston's own names of levels, and those that its users give. */
const levels: { readonly [name: string]: Level } = {
	silly: Level.TRACE,
	trace: Level.TRACE,
	debug: Level.DEBUG,
	verbose: Level.DEBUG,
	http: Level.INFO,
	info: Level.INFO,
	notice: Level.INFO,
	warn: Level.WARN,
	warning: Level.WARN,
	error: Level.ERROR,
	crit: Level.FATAL,
	alert: Level.FATAL,
	emerg: Level.FATAL,
	fatal: Level.FATAL,
};

/** Where winston keeps the level, before colours were added to it. */
const plainLevel = Symbol.for("level");

interface WinstonLog {
	level?: unknown;
	message?: unknown;
	timestamp?: unknown;
	[plainLevel]?: unknown;
	[name: string]: unknown;
}

/** A transport for winston. The client stays the program's to shut down. */
export function winstonTransport(client: Emitter, options: { level?: string } = {}): Writable {
	const transport = new Writable({
		objectMode: true,
		write(log: WinstonLog, _encoding, done) {
			emitLog(client, log);
			done();
		},
	});
	// winston takes a stream with a `log` of two arguments for a transport of its own kind.
	return Object.assign(transport, {
		...options,
		log(log: WinstonLog, done: () => void) {
			emitLog(client, log);
			done();
		},
	});
}

function emitLog(client: Emitter, log: WinstonLog): void {
	const { level, message, timestamp, stack, ...attributes } = log;
	// A formatter may have coloured the other.
	const name = log[plainLevel] ?? level;
	const timeUnixMs = typeof timestamp === "string" ? Date.parse(timestamp) : Number.NaN;
	if (stack !== undefined) {
		attributes["exception.stacktrace"] = stack;
	}
	client.emit(
		levels[String(name)] ?? Level.INFO,
		message ?? "",
		attributes,
		timeUnixMs > 0 ? timeUnixMs : undefined,
	);
}
