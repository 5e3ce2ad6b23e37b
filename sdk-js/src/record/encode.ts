/**
 * A log as the bytes of a field of `logweir.v1.Batch`, cut to the limits of the contract while it is written.
 *
 * The server refuses a log that is over a limit. The library never does: it cuts text at a character
 * boundary, leaves out what cannot be kept, and says so in two attributes of the log.
 */

import { cutText } from "./limits.js";
import {
	type Attributes,
	attributeKeyBytesMax,
	attributesMax,
	attributeValueBytesMax,
	isDouble,
	isJsonText,
	Level,
	type LogRecord,
	messageBytesMax,
	nameBytesMax,
	toJson,
	toText,
	unreadable,
} from "./record.js";
import { type Redaction, redacted } from "./redaction.js";
import {
	intBits,
	isHex,
	nanosecondsPerMillisecond,
	varintBytes,
	Writer,
	type WriteText,
	writeVarint,
} from "./wire.js";

const truncatedKey = "logweir.truncated";
const droppedAttributesKey = "logweir.dropped_attributes";
/** The two flags themselves are attributes. */
const flagsMax = 2;
const severityNumberMax = 24;
const traceIdBytes = 16;
const spanIdBytes = 8;

/** Fields of `Batch`, `LogRecord` and `Attribute`, as protobuf writes number and type. */
const Tag = {
	record: 0x22,
	timeUnixNano: 0x09,
	level: 0x10,
	severityNumber: 0x18,
	message: 0x22,
	latencyMs: 0x29,
	traceId: 0x32,
	spanId: 0x3a,
	logger: 0x42,
	attributes: 0x4a,
	key: 0x0a,
	stringValue: 0x12,
	intValue: 0x18,
	doubleValue: 0x21,
	boolValue: 0x28,
	jsonValue: 0x32,
} as const;

/** The tag and the longest length of a log. */
const framingBytesMax = 5;
/** Tags, lengths and numbers of a log without its texts. */
const fixedBytesMax = 128;
/** Tag, length, number and the like of an attribute without its texts. */
const attributeFixedBytesMax = 32;
/** The tag of an attribute, and one byte for its length. */
const attributeHeadBytes = 2;
/** Times are nanoseconds of 64 bits without a sign. */
const timeBits = 64;
const timeUnixMsMin = 1 / nanosecondsPerMillisecond;
const timeUnixMsEnd = 2 ** timeBits / nanosecondsPerMillisecond;

/** Names of attributes that are kept; a program that makes names up must not fill memory. */
const keysKeptMax = 1_024;
/** The name of a value that was handed over without one. */
const strayName = "value";

const isOwn = Object.prototype.hasOwnProperty;

/** Names of attributes that may be fields of the log. */
const meanings = new Map<string, Meaning>([
	["latency_ms", "latency"],
	["duration_ms", "latency"],
	["trace_id", "trace"],
	["span_id", "span"],
	["logger", "logger"],
]);
type Meaning = "latency" | "trace" | "span" | "logger";

/** The name of an attribute. */
interface Key {
	/** The head of the attribute, up to its value. */
	head: Uint8Array;
	isNameless: boolean;
	isCut: boolean;
	/** Its value must not be sent. */
	isHidden: boolean;
	meaning: Meaning | undefined;
}

/** The trace that a log belongs to. */
export interface TraceIds {
	traceId: Uint8Array | string;
	spanId: Uint8Array | string;
}

export class Encoder {
	readonly #writer: Writer;
	readonly #redaction: Redaction;
	readonly #keys = new Map<string, Key>();
	#isTruncated = false;
	#attributes = 0;
	#attributesSeen = 0;
	/** End of the last attribute beside which there is room for the flags. */
	#endWithRoomForFlags = 0;
	#latencyMs: number | undefined;
	#logger = "";
	#traceId: Uint8Array | string | undefined;
	#spanId: Uint8Array | string | undefined;
	/** Where the last log begins in the buffer. */
	start = 0;
	/** Whether its time was not valid, so that it has the time of the call. */
	isTimeReplaced = false;

	constructor(allocate: (bytes: number) => Uint8Array, writeText: WriteText, redaction: Redaction) {
		this.#writer = new Writer(allocate, writeText);
		this.#redaction = redaction;
	}

	/** Holds the last log that was encoded. */
	get buffer(): Uint8Array {
		return this.#writer.buffer;
	}

	/**
	 * Encodes a log that is given field by field, and returns its end in the buffer. `isPlain`: it was
	 * none at first, so that its attributes have the meanings of [encodePlain]. Null is absent.
	 */
	encode(
		record: LogRecord,
		isPlain: boolean,
		timeUnixMs: number | undefined,
		nowUnixMs: number,
	): number {
		this.#begin();
		this.#latencyMs = record.latencyMs ?? undefined;
		this.#traceId = record.traceId ?? undefined;
		this.#spanId = record.spanId ?? undefined;
		if ((record.timeUnixNano ?? 0n) === 0n) {
			this.#time(timeUnixMs, nowUnixMs);
		} else {
			this.#timeUnixNano(record.timeUnixNano, nowUnixMs);
		}
		this.#level(record.level ?? Level.UNSPECIFIED);
		this.#severityNumber(record.severityNumber ?? 0);
		this.#logger = toText(record.logger ?? "");
		this.#content(record.message ?? "", record.attributes, isPlain);
		return this.#finish();
	}

	/**
	 * Encodes a log as most are: a level, a message and attributes, of which `latency_ms`,
	 * `duration_ms`, `trace_id`, `span_id` and `logger` have a meaning. Returns its end in the buffer.
	 */
	encodePlain(
		level: number,
		message: unknown,
		attributes: Attributes | undefined,
		trace: TraceIds | undefined,
		timeUnixMs: number | undefined,
		nowUnixMs: number,
	): number {
		this.#begin();
		this.#latencyMs = undefined;
		this.#logger = "";
		this.#traceId = trace?.traceId;
		this.#spanId = trace?.spanId;
		this.#time(timeUnixMs, nowUnixMs);
		this.#level(level);
		this.#content(message, attributes, true);
		return this.#finish();
	}

	#content(message: unknown, attributes: unknown, isPlain: boolean): void {
		this.#message(message);
		if (isPlain && message instanceof Error) {
			this.#exception(message);
		}
		this.#each(attributes, isPlain);
	}

	#begin(): void {
		this.#writer.begin(framingBytesMax);
		// Once for all fields of a fixed size: a check at each would cost more than the field.
		this.#writer.room(fixedBytesMax);
		this.#isTruncated = false;
		this.isTimeReplaced = false;
		this.#attributes = 0;
		this.#attributesSeen = 0;
	}

	/** Writes the flags, and what may stand after the attributes. Returns the end. */
	#finish(): number {
		const writer = this.#writer;
		// Before the flags: what is cleared here must be flagged, too.
		this.#checkFields();
		this.#flags();
		if (this.#logger !== "") {
			writer.text(Tag.logger, this.#logger, nameBytesMax);
		}
		writer.room(fixedBytesMax);
		if (this.#latencyMs !== undefined) {
			writer.double(Tag.latencyMs, this.#latencyMs);
		}
		if (this.#traceId !== undefined) {
			writer.id(Tag.traceId, this.#traceId);
		}
		if (this.#spanId !== undefined) {
			writer.id(Tag.spanId, this.#spanId);
		}
		this.start = writer.frame(Tag.record, framingBytesMax);
		return writer.at;
	}

	#flags(): void {
		const isSurplus = this.#attributesSeen > attributesMax;
		const isNameless = this.#attributesSeen > this.#attributes && !isSurplus;
		if (!this.#isTruncated && !isSurplus && !isNameless) {
			return;
		}
		const needsBoth = isNameless || this.#attributesSeen >= attributesMax;
		if (needsBoth && this.#attributes > attributesMax - flagsMax) {
			this.#attributes = attributesMax - flagsMax;
			// The last attributes are taken back to make room for the flags.
			this.#writer.at = this.#endWithRoomForFlags;
		}
		const dropped = this.#attributesSeen - this.#attributes;
		this.#attribute(this.#keyOf(truncatedKey), true);
		if (dropped > 0) {
			this.#attribute(this.#keyOf(droppedAttributesKey), dropped);
		}
	}

	/** Clears what the server would refuse the log for. */
	#checkFields(): void {
		const latencyMs = this.#latencyMs;
		if (latencyMs !== undefined && !isLatency(latencyMs)) {
			this.#latencyMs = undefined;
			this.#isTruncated = true;
		}
		if (this.#logger !== "" && cutText(this.#logger, nameBytesMax) !== this.#logger) {
			this.#isTruncated = true;
		}
		this.#traceId = this.#checkedId(this.#traceId, traceIdBytes);
		this.#spanId = this.#checkedId(this.#spanId, spanIdBytes);
	}

	#checkedId(id: Uint8Array | string | undefined, bytes: number): Uint8Array | string | undefined {
		if (id === undefined || id.length === 0) {
			return undefined;
		}
		const isWhole = typeof id === "string" ? isHex(id, 2 * bytes) : id.length === bytes;
		this.#isTruncated ||= !isWhole;
		return isWhole ? id : undefined;
	}

	/** Writes the time, or that of the call if none is given, which 0 means on the wire as well. */
	#time(timeUnixMs: number | undefined, nowUnixMs: number): void {
		if ((timeUnixMs ?? 0) === 0) {
			this.#writer.nanoseconds(Tag.timeUnixNano, nowUnixMs);
		} else if (isTimeUnixMs(timeUnixMs)) {
			this.#writer.nanoseconds(Tag.timeUnixNano, timeUnixMs);
		} else {
			this.#replaceTime(nowUnixMs);
		}
	}

	#timeUnixNano(timeUnixNano: bigint | undefined, nowUnixMs: number): void {
		if (isTimeUnixNano(timeUnixNano)) {
			this.#writer.fixed64(Tag.timeUnixNano, timeUnixNano);
		} else {
			this.#replaceTime(nowUnixMs);
		}
	}

	#replaceTime(nowUnixMs: number): void {
		this.isTimeReplaced = true;
		this.#isTruncated = true;
		this.#writer.nanoseconds(Tag.timeUnixNano, nowUnixMs);
	}

	#level(level: number): void {
		if (level === Level.UNSPECIFIED) {
			return;
		}
		if (Number.isInteger(level) && level > 0 && level <= Level.FATAL) {
			this.#writer.small(Tag.level, level);
		} else {
			this.#isTruncated = true;
		}
	}

	#severityNumber(severityNumber: number): void {
		if (severityNumber === 0) {
			return;
		}
		const isOne = Number.isInteger(severityNumber) && severityNumber > 0;
		if (isOne && severityNumber <= severityNumberMax) {
			this.#writer.small(Tag.severityNumber, severityNumber);
		} else {
			this.#isTruncated = true;
		}
	}

	#message(message: unknown): void {
		const text = message === undefined ? "" : toText(message);
		if (text !== "" && this.#writer.text(Tag.message, text, messageBytesMax)) {
			this.#isTruncated = true;
		}
	}

	#each(attributes: unknown, hasMeanings: boolean): void {
		if (attributes === undefined || attributes === null) {
			return;
		}
		if (typeof attributes !== "object") {
			this.#named(strayName, attributes, hasMeanings);
		} else if (attributes instanceof Error) {
			this.#exception(attributes);
		} else if (Symbol.iterator in attributes) {
			this.#eachEntry(attributes as Iterable<unknown>, hasMeanings);
		} else {
			this.#eachProperty(attributes as Record<string, unknown>, hasMeanings);
		}
	}

	#eachProperty(attributes: Record<string, unknown>, hasMeanings: boolean): void {
		// Quicker than by a list of the names, and than by Object.hasOwn.
		for (const name in attributes) {
			if (!isOwn.call(attributes, name)) {
				continue;
			}
			let value: unknown;
			try {
				value = attributes[name];
			} catch (error) {
				value = unreadable(error);
			}
			this.#named(name, value, hasMeanings);
		}
	}

	/** What is no pair of name and value gets its number for a name. */
	#eachEntry(entries: Iterable<unknown>, hasMeanings: boolean): void {
		let number = 0;
		for (const entry of entries) {
			if (Array.isArray(entry)) {
				this.#named(toText(entry[0]), entry[1], hasMeanings);
			} else {
				this.#named(String(number), entry, hasMeanings);
			}
			number += 1;
		}
	}

	#named(name: string, value: unknown, hasMeanings: boolean): void {
		if (value === undefined) {
			return;
		}
		if (typeof value === "object" && value instanceof Error) {
			this.#exception(value);
			return;
		}
		const key = this.#keyOf(name);
		const isField = hasMeanings && key.meaning !== undefined && this.#takes(key.meaning, value);
		if (!isField) {
			this.#counted(key, value);
		}
	}

	#exception(error: Error): void {
		this.#counted(this.#keyOf("exception.type"), readText(error, "name"));
		this.#counted(this.#keyOf("exception.message"), readText(error, "message"));
		this.#counted(this.#keyOf("exception.stacktrace"), stackOf(error));
	}

	/** Whether the value of an attribute is a field of the log. */
	#takes(meaning: Meaning, value: unknown): boolean {
		switch (meaning) {
			case "latency":
				if (typeof value !== "number" || !isLatency(value) || this.#latencyMs !== undefined) {
					return false;
				}
				this.#latencyMs = value;
				return true;
			case "trace":
				if (typeof value !== "string" || !isHex(value, 2 * traceIdBytes)) {
					return false;
				}
				this.#traceId = value;
				return true;
			case "span":
				if (typeof value !== "string" || !isHex(value, 2 * spanIdBytes)) {
					return false;
				}
				this.#spanId = value;
				return true;
			case "logger":
				if (typeof value !== "string" || value === "") {
					return false;
				}
				this.#logger = value;
				return true;
		}
	}

	/** Writes an attribute if there is a place for it, and counts it in any case. */
	#counted(key: Key, value: unknown): void {
		this.#attributesSeen += 1;
		if (key.isNameless || this.#attributes >= attributesMax) {
			// The surplus may need cutting too, but it is left out as a whole.
			return;
		}
		if (this.#attributes === attributesMax - flagsMax) {
			this.#endWithRoomForFlags = this.#writer.at;
		}
		this.#isTruncated ||= key.isCut;
		this.#attribute(key, key.isHidden ? redacted : value);
		this.#attributes += 1;
	}

	#attribute(key: Key, value: unknown): void {
		const writer = this.#writer;
		writer.room(key.head.length + attributeFixedBytesMax);
		const start = writer.at + attributeHeadBytes;
		writer.bytes(key.head);
		this.#value(value);
		writer.closeLength(start);
	}

	/** What is to be known of a name, which most programs use again and again. */
	#keyOf(name: string): Key {
		return this.#keys.get(name) ?? this.#newKey(name);
	}

	#newKey(name: string): Key {
		const text = cutText(name, attributeKeyBytesMax);
		const key = {
			head: headOf(text),
			isNameless: name === "",
			isCut: text.length < name.length,
			isHidden: this.#redaction.hides(name),
			meaning: meanings.get(name),
		};
		// Long names are most likely made up, and would never come again.
		if (this.#keys.size < keysKeptMax && name.length <= attributeKeyBytesMax) {
			this.#keys.set(name, key);
		}
		return key;
	}

	#value(value: unknown): void {
		switch (typeof value) {
			case "string":
				this.#text(Tag.stringValue, value);
				return;
			case "number":
				this.#number(value);
				return;
			case "boolean":
				this.#writer.small(Tag.boolValue, value ? 1 : 0);
				return;
			case "bigint":
				this.#bigInt(value);
				return;
			case "object":
				this.#object(value);
				return;
			default:
				this.#text(Tag.stringValue, toText(value));
		}
	}

	#number(value: number): void {
		if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
			this.#writer.int(Tag.intValue, value);
		} else {
			this.#writer.double(Tag.doubleValue, value);
		}
	}

	/** A number that does not fit the wire's whole numbers stays exact as text. */
	#bigInt(value: bigint): void {
		if (BigInt.asIntN(intBits, value) === value) {
			this.#writer.bigInt(Tag.intValue, value);
		} else {
			this.#text(Tag.stringValue, value.toString());
		}
	}

	/** Null has no value on the wire. */
	#object(value: object | null): void {
		if (value === null) {
			return;
		}
		if (isDouble(value)) {
			this.#writer.double(Tag.doubleValue, value.value);
		} else if (value instanceof Date) {
			this.#text(Tag.stringValue, dateText(value));
		} else {
			this.#json(isJsonText(value) ? value.text : toJson(value));
		}
	}

	#json(text: string): void {
		if (this.#redaction.hidesJson(text)) {
			this.#text(Tag.stringValue, redacted);
			return;
		}
		const tagAt = this.#writer.at;
		if (this.#text(Tag.jsonValue, text)) {
			// A part of a JSON text is no JSON text.
			this.#writer.buffer[tagAt] = Tag.stringValue;
		}
	}

	/** Writes the text of a value. True if it had to be cut. */
	#text(tag: number, text: string): boolean {
		const wasCut = this.#writer.text(tag, text, attributeValueBytesMax);
		this.#isTruncated ||= wasCut;
		return wasCut;
	}
}

/** An attribute up to its value, its length left open. */
function headOf(name: string): Uint8Array {
	const text = new TextEncoder().encode(name);
	const textAt = attributeHeadBytes + 1 + varintBytes(text.length);
	const head = new Uint8Array(textAt + text.length);
	head[0] = Tag.attributes;
	head[attributeHeadBytes] = Tag.key;
	writeVarint(head, attributeHeadBytes + 1, text.length);
	head.set(text, textAt);
	return head;
}

function isTimeUnixNano(time: unknown): time is bigint {
	return typeof time === "bigint" && BigInt.asUintN(timeBits, time) === time;
}

function isTimeUnixMs(time: unknown): time is number {
	return typeof time === "number" && time >= timeUnixMsMin && time < timeUnixMsEnd;
}

function isLatency(value: number): boolean {
	return Number.isFinite(value) && value >= 0;
}

function readText(error: Error, name: "name" | "message"): string {
	return toText(read(error, name));
}

function stackOf(error: Error): unknown {
	const stack = read(error, "stack");
	return typeof stack === "string" ? stack : toText(error);
}

function read(error: Error, name: "name" | "message" | "stack"): unknown {
	try {
		return error[name];
	} catch (thrown) {
		return unreadable(thrown);
	}
}

function dateText(date: Date): string {
	return Number.isNaN(date.getTime()) ? "Invalid Date" : date.toISOString();
}
