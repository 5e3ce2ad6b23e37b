/**
 * Logs of pino. As a transport, in a worker thread that pino starts:
 * `pino(pino.transport({ target: "@logweir/sdk/pino", options: { service: "shop" } }))`; or as a stream in
 * the program itself: `pino(pinoStream(client))`.
 */

import { Writable } from "node:stream";
import type { BaseClient } from "../client.js";
import { Client } from "../index.js";
import type { ClientOptions } from "../options.js";
import { settingsOf } from "../options.js";
import { nodePlatform } from "../platform/node.js";
import { Level } from "../record/record.js";
import type { Emitter } from "./console.js";

/** How long the worker may go on sending when the program ends, milliseconds. */
const endTimeoutMs = 5_000;
/** pino's numbers of levels are ten times ours, its own between them belong to the one below. */
const pinoLevelStep = 10;

/** What pino and its worker add to the options of a target. */
const addedByPino = ["$context", "dedupe", "levels", "pinoWillSendConfig"];

/** The target of `pino.transport`. The options are those of a client. */
export default function pinoTransport(options: ClientOptions = {}): Writable {
	// Told and not thrown: with another version of pino there may be names that the program never gave.
	const notice = (text: string) => nodePlatform.printNotice(`logweir: ${text}`);
	const client = new Client(settingsOf(options, addedByPino, notice));
	return new Writable({
		decodeStrings: false,
		defaultEncoding: "utf8",
		write: lines(client),
		final(done) {
			void client.shutdown(endTimeoutMs).then(() => done());
		},
	});
}

/** A stream for pino in the program itself. The client stays the program's to shut down. */
export function pinoStream(client: Emitter): { write(line: string): void } {
	return { write: (line) => emitLine(client, line) };
}

/** Takes text in parts of any size, and gives on whole lines. */
function lines(client: Pick<BaseClient, "emit">): Writable["_write"] {
	let rest = "";
	return (part: string | Buffer, _encoding, done) => {
		const text = rest + part.toString();
		const end = text.lastIndexOf("\n");
		for (const line of text.slice(0, end + 1).split("\n")) {
			emitLine(client, line);
		}
		// A part may end within a line.
		rest = text.slice(end + 1);
		done();
	};
}

interface PinoLog {
	level?: unknown;
	time?: unknown;
	msg?: unknown;
	err?: unknown;
	[name: string]: unknown;
}

/** A line that is none of pino's is a message as it is. */
function emitLine(client: Emitter, line: string): void {
	if (line.trim() === "") {
		return;
	}
	const log = parsed(line);
	if (log === undefined) {
		client.emit(Level.INFO, line.trimEnd());
		return;
	}
	// The resource has the process and the machine.
	const { level, time, msg, err, pid: _pid, hostname: _hostname, name, ...attributes } = log;
	addError(attributes, err);
	if (name !== undefined) {
		attributes.logger = name;
	}
	client.emit(levelOf(level), msg ?? "", attributes, timeOf(time));
}

function parsed(line: string): PinoLog | undefined {
	try {
		const log: unknown = JSON.parse(line);
		return typeof log === "object" && log !== null && !Array.isArray(log)
			? (log as PinoLog)
			: undefined;
	} catch {
		return undefined;
	}
}

/** pino's serialized error under the names of an exception. */
function addError(attributes: { [name: string]: unknown }, error: unknown): void {
	if (typeof error !== "object" || error === null) {
		if (error !== undefined) {
			attributes.err = error;
		}
		return;
	}
	const { type, message, stack, ...others } = error as { [name: string]: unknown };
	attributes["exception.type"] = type;
	attributes["exception.message"] = message;
	attributes["exception.stacktrace"] = stack;
	if (Object.keys(others).length > 0) {
		attributes.err = others;
	}
}

function levelOf(level: unknown): Level {
	if (typeof level !== "number") {
		return Level.INFO;
	}
	// A level between two of pino's belongs to the lower one.
	const number = Math.floor(level / pinoLevelStep);
	return Math.min(Math.max(number, Level.TRACE), Level.FATAL) as Level;
}

function timeOf(time: unknown): number | undefined {
	const milliseconds = typeof time === "string" ? Date.parse(time) : time;
	const isTime = typeof milliseconds === "number" && milliseconds > 0;
	return isTime && Number.isFinite(milliseconds) ? milliseconds : undefined;
}
