/** What a program writes to the console becomes logs; the console goes on as before. */

import type { BaseClient } from "../client.js";
import { nestedLogsMax } from "../record/limits.js";
import { Level, toText, unreadable } from "../record/record.js";

type Method = "trace" | "debug" | "log" | "info" | "warn" | "error";

const levels: readonly (readonly [Method, Level])[] = [
	["trace", Level.TRACE],
	["debug", Level.DEBUG],
	["log", Level.INFO],
	["info", Level.INFO],
	["warn", Level.WARN],
	["error", Level.ERROR],
];

/** The client that a program's logs are given to. */
export type Emitter = Pick<BaseClient, "emit">;

/**
 * Gives what is written to a console to a client as well. A plain object in the last place becomes
 * attributes, an Error its `exception.*`. Returns what undoes it.
 */
export function wrapConsole(client: Emitter, target: Console = console): () => void {
	const before = new Map<Method, Console[Method]>();
	let isWriting = false;
	let depth = 0;
	for (const [method, level] of levels) {
		const original = target[method];
		before.set(method, original);
		target[method] = (...parts: unknown[]) => {
			if (isWriting) {
				// The original may itself write to another method.
				original.apply(target, parts);
				return;
			}
			// The program's own output comes first, whatever becomes of the log.
			isWriting = true;
			try {
				original.apply(target, parts);
			} finally {
				isWriting = false;
			}
			depth += 1;
			try {
				emitAny(client, level, depth > nestedLogsMax ? [unreadable()] : parts);
			} finally {
				depth -= 1;
			}
		};
	}
	return () => {
		for (const [method, original] of before) {
			target[method] = original;
		}
	};
}

/** What cannot even be looked at is a log all the same. */
function emitAny(client: Emitter, level: Level, parts: unknown[]): void {
	try {
		emitParts(client, level, parts);
	} catch {
		client.emit(level, unreadable());
	}
}

function emitParts(client: Emitter, level: Level, parts: unknown[]): void {
	const last = parts[parts.length - 1];
	// A single object is the message itself.
	const attributes = parts.length > 1 && isPlainObject(last) ? last : undefined;
	const texts = attributes === undefined ? parts : parts.slice(0, -1);
	const error = texts.find((part) => part instanceof Error);
	const message = texts.length === 1 ? texts[0] : formatted(texts);
	if (error === undefined || message === error) {
		client.emit(level, message, attributes);
	} else {
		client.emit(level, message, { ...attributes, exception: error });
	}
}

/** What the console makes of its arguments: places in the first are filled with the next, the rest follows. */
function formatted(parts: unknown[]): string {
	const [first, ...rest] = parts;
	if (typeof first !== "string") {
		return parts.map(toText).join(" ");
	}
	const text = first.replace(/%[sdifjoOc%]/g, (place) => {
		if (place === "%%" || rest.length === 0) {
			return place === "%%" ? "%" : place;
		}
		const part = toText(rest.shift());
		// A style is for the eyes.
		return place === "%c" ? "" : part;
	});
	return [text, ...rest.map(toText)].join(" ");
}

function isPlainObject(value: unknown): value is { readonly [name: string]: unknown } {
	if (typeof value !== "object" || value === null) {
		return false;
	}
	const prototype: unknown = Object.getPrototypeOf(value);
	return prototype === Object.prototype || prototype === null;
}
