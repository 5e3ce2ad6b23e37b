/** What a program hands over: a log, and the values of its attributes. */

/** How serious a log is, as the contract numbers it. */
export const Level = {
	UNSPECIFIED: 0,
	TRACE: 1,
	DEBUG: 2,
	INFO: 3,
	WARN: 4,
	ERROR: 5,
	FATAL: 6,
} as const;

export type Level = (typeof Level)[keyof typeof Level];
/** The same as text. */
export type LevelName =
	| "trace"
	| "debug"
	| "info"
	| "warn"
	| "warning"
	| "error"
	| "fatal"
	| "critical";

const levelsByName = new Map<string, Level>([
	...Object.entries(Level),
	["WARNING", Level.WARN],
	["CRITICAL", Level.FATAL],
]);

/** The level of a name in any case, or of a number; undefined if there is none. */
export function toLevel(level: unknown): Level | undefined {
	if (typeof level === "number") {
		return Number.isInteger(level) && level >= 0 && level <= Level.FATAL
			? (level as Level)
			: undefined;
	}
	return typeof level === "string" ? levelsByName.get(level.toUpperCase()) : undefined;
}

/**
 * Named values. Text, whole numbers, numbers, booleans and null are kept as they are, a BigInt beyond
 * 64 bits and a Date become text, an Error becomes `exception.type`, `exception.message` and
 * `exception.stacktrace`, anything else becomes JSON. `undefined` is left out.
 */
export type Attributes =
	| { readonly [name: string]: unknown }
	| Iterable<readonly [string, unknown]>;

/** A log, field by field. */
export interface LogRecord {
	/** When it happened, nanoseconds since 1970-01-01 UTC. Without it: when it is emitted. */
	timeUnixNano?: bigint | undefined;
	level?: number | undefined;
	/** OpenTelemetry's severity, 1 to 24. */
	severityNumber?: number | undefined;
	message?: string | undefined;
	/** How long the logged operation took, milliseconds. */
	latencyMs?: number | undefined;
	/** The W3C trace id: 16 bytes or 32 hexadecimal digits. */
	traceId?: Uint8Array | string | undefined;
	/** The W3C span id: 8 bytes or 16 hexadecimal digits. */
	spanId?: Uint8Array | string | undefined;
	/** The logger or module that wrote it. */
	logger?: string | undefined;
	attributes?: Attributes | undefined;
}

/** The package may be loaded twice, as an ES module and by require: each knows the other's values. */
const jsonBrand = Symbol.for("@logweir/sdk.json");
const doubleBrand = Symbol.for("@logweir/sdk.double");

/** A nested value that is JSON text already. */
export class JsonText {
	readonly [jsonBrand] = true;
	readonly text: string;

	constructor(text: string) {
		this.text = text;
	}
}

/** A number that stays a floating-point one on the wire, even if it is whole. */
export class Double {
	readonly [doubleBrand] = true;
	readonly value: number;

	constructor(value: number) {
		this.value = value;
	}
}

export function isJsonText(value: object): value is JsonText {
	return (value as Partial<JsonText>)[jsonBrand] === true;
}

export function isDouble(value: object): value is Double {
	return (value as Partial<Double>)[doubleBrand] === true;
}

/** Marks a text as JSON: `{ cart: json(body) }` is sent as a nested value. */
export function json(text: string): JsonText {
	return new JsonText(text);
}

/** Marks a number as a floating-point one: `{ ratio: double(1) }`. */
export function double(value: number): Double {
	return new Double(value);
}

/** Longest message, bytes. */
export const messageBytesMax = 64 << 10;
/** Most attributes of a log. */
export const attributesMax = 128;
/** Longest name of an attribute, bytes. */
export const attributeKeyBytesMax = 256;
/** Longest value of an attribute, bytes. */
export const attributeValueBytesMax = 16 << 10;
/** Longest logger, instance, environment, version, region or host, bytes. */
export const nameBytesMax = 256;

/** A value as text, whatever it is; nothing that it does reaches the caller. */
export function toText(value: unknown): string {
	if (typeof value === "string") {
		return value;
	}
	try {
		if (value instanceof Error) {
			return value.message || value.name;
		}
		return typeof value === "object" && value !== null ? toJson(value) : String(value);
	} catch (error) {
		return unreadable(error);
	}
}

/** An object as JSON text. What JSON does not know is kept as text, and a circle is cut. */
export function toJson(value: object): string {
	try {
		return JSON.stringify(value) ?? String(value);
	} catch {
		return toJsonWithoutCircles(value);
	}
}

function toJsonWithoutCircles(value: object): string {
	const above: unknown[] = [];
	function replace(this: unknown, _key: string, inner: unknown): unknown {
		if (typeof inner === "bigint") {
			return inner.toString();
		}
		if (typeof inner !== "object" || inner === null) {
			return inner;
		}
		// `this` holds the value: whatever lies beyond it on the way is no longer above.
		while (above.length > 0 && above[above.length - 1] !== this) {
			above.pop();
		}
		if (above.includes(inner)) {
			return "[circular]";
		}
		above.push(inner);
		return inner;
	}
	try {
		return JSON.stringify(value, replace) ?? String(value);
	} catch (error) {
		return JSON.stringify(unreadable(error));
	}
}

/** What stands for a value that throws when it is read. */
export function unreadable(error?: unknown): string {
	if (error === undefined) {
		return "[unreadable]";
	}
	try {
		return `[unreadable: ${error instanceof Error ? error.message : String(error)}]`;
	} catch {
		return "[unreadable]";
	}
}
