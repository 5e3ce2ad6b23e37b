/**
 * A log as the bytes of a field of `logweir.v1.Batch`, cut to the limits of the contract while it is written.
 *
 * Written by hand into one buffer that is used again and again, since this runs at each call of the
 * program: no object, no intermediate form. The server refuses a log that is over a limit. The library
 * never does: it cuts text at a character boundary, leaves out what cannot be kept, and says so in two
 * attributes of the log.
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
/** One UTF-16 unit takes at most so many bytes of UTF-8. */
const unitBytesMax = 3;
/** Tags, lengths and numbers of a log without its texts. */
const fixedBytesMax = 128;
/** Tag, length, key and the like of an attribute without its texts. */
const attributeFixedBytesMax = 32;
const bufferBytes = 64 << 10;
/** A buffer that one large log made larger than this is not kept. */
const bufferKeptBytesMax = 512 << 10;
/** Below this many UTF-16 units a loop is quicker than a call. */
const loopUnitsMax = 48;
const nanosecondsPerMillisecond = 1_000_000;
/** Times are nanoseconds of 64 bits without a sign. */
const timeBits = 64;
const timeUnixMsEnd = 2 ** timeBits / nanosecondsPerMillisecond;
/** What half a word of 32 bits, and a whole one, count up to. */
const halfStep = 0x1_0000;
const wordStep = 0x1_0000_0000;

/** Names of attributes that are kept; a program that makes names up must not fill memory. */
const keysKeptMax = 1_024;
/** The name of a value that was handed over without one. */
const strayName = "value";

/** The name of an attribute. */
interface Key {
	/** As a field of the attribute. */
	field: Uint8Array;
	isCut: boolean;
	/** Its value must not be sent. */
	isHidden: boolean;
}

/** Writes a text as UTF-8 into a buffer that has room, and returns the end. */
export type WriteText = (buffer: Uint8Array, at: number, text: string) => number;

/** The trace that a log belongs to. */
export interface TraceIds {
	traceId: Uint8Array | string;
	spanId: Uint8Array | string;
}

export class Encoder {
	readonly #allocate: (bytes: number) => Uint8Array;
	readonly #writeText: WriteText;
	readonly #redaction: Redaction;
	readonly #keys = new Map<string, Key>();
	#view: DataView;
	/** The time that was written last, and its words. */
	#lastMilliseconds = 0;
	#lastLowWord = 0;
	#lastHighWord = 0;
	#at = 0;
	#isTruncated = false;
	#attributes = 0;
	#attributesSeen = 0;
	/** Ends of the last attributes but one and two, so that there can be room for the flags. */
	#endWithRoomForOne = 0;
	#endWithRoomForTwo = 0;
	#latencyMs: number | undefined;
	#logger = "";
	#traceId: Uint8Array | string | undefined;
	#spanId: Uint8Array | string | undefined;
	/** Holds the last log that was encoded. */
	buffer: Uint8Array;
	/** Where it begins there. */
	start = 0;

	constructor(allocate: (bytes: number) => Uint8Array, writeText: WriteText, redaction: Redaction) {
		this.#allocate = allocate;
		this.#writeText = writeText;
		this.#redaction = redaction;
		this.buffer = allocate(bufferBytes);
		this.#view = viewOf(this.buffer);
	}

	/** Encodes a log that is given field by field, and returns its end in the buffer. */
	encode(record: LogRecord, timeUnixMs: number): number {
		this.#begin();
		this.#latencyMs = record.latencyMs;
		this.#traceId = record.traceId;
		this.#spanId = record.spanId;
		this.#time(record.timeUnixNano, timeUnixMs);
		this.#level(record.level);
		this.#severityNumber(record.severityNumber);
		this.#message(record.message);
		this.#logger = record.logger === undefined ? "" : toText(record.logger);
		this.#each(record.attributes, false);
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
		timeUnixMs: number,
	): number {
		this.#begin();
		this.#latencyMs = undefined;
		this.#logger = "";
		this.#traceId = trace?.traceId;
		this.#spanId = trace?.spanId;
		this.#time(undefined, timeUnixMs);
		this.#level(level);
		this.#message(message);
		if (message instanceof Error) {
			this.#exception(message);
		}
		this.#each(attributes, true);
		return this.#finish();
	}

	#begin(): void {
		if (this.buffer.length > bufferKeptBytesMax) {
			this.buffer = this.#allocate(bufferBytes);
			this.#view = viewOf(this.buffer);
		}
		this.#at = framingBytesMax;
		this.#isTruncated = false;
		this.#attributes = 0;
		this.#attributesSeen = 0;
	}

	/** Writes the flags, and what may stand after the attributes. */
	#finish(): number {
		this.#checkFields();
		this.#flags();
		if (this.#logger !== "") {
			this.#text(Tag.logger, this.#logger, nameBytesMax);
		}
		this.#room(fixedBytesMax);
		if (this.#latencyMs !== undefined) {
			this.#double(Tag.latencyMs, this.#latencyMs);
		}
		this.#id(Tag.traceId, this.#traceId);
		this.#id(Tag.spanId, this.#spanId);
		this.#frame();
		return this.#at;
	}

	/** Writes what makes it a field of a batch right before it. */
	#frame(): void {
		const length = this.#at - framingBytesMax;
		this.start = framingBytesMax - varintBytes(length) - 1;
		this.buffer[this.start] = Tag.record;
		writeVarint(this.buffer, this.start + 1, length);
	}

	#flags(): void {
		const isSurplus = this.#attributesSeen > attributesMax;
		const isNameless = this.#attributesSeen > this.#attributes && !isSurplus;
		if (!this.#isTruncated && !isSurplus && !isNameless) {
			return;
		}
		const flags = isNameless || this.#attributesSeen >= attributesMax ? flagsMax : 1;
		if (this.#attributes > attributesMax - flags) {
			this.#attributes = attributesMax - flags;
			this.#at = flags === 1 ? this.#endWithRoomForOne : this.#endWithRoomForTwo;
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
		const isLong = this.#logger.length * unitBytesMax > nameBytesMax;
		if (isLong && cutText(this.#logger, nameBytesMax) !== this.#logger) {
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

	#time(timeUnixNano: bigint | undefined, timeUnixMs: number): void {
		this.#room(fixedBytesMax);
		this.buffer[this.#at] = Tag.timeUnixNano;
		const isGiven = (timeUnixNano ?? 0n) !== 0n;
		if (isGiven && isTimeUnixNano(timeUnixNano)) {
			this.#view.setBigUint64(this.#at + 1, timeUnixNano, true);
		} else {
			const isTime = timeUnixMs >= 0 && timeUnixMs < timeUnixMsEnd;
			this.#isTruncated ||= isGiven || !isTime;
			this.#milliseconds(this.#at + 1, isTime ? timeUnixMs : 0);
		}
		this.#at += 9;
	}

	/** Writes milliseconds as nanoseconds of 64 bits, by halves, since there is no exact number so large. */
	#milliseconds(at: number, milliseconds: number): void {
		if (milliseconds !== this.#lastMilliseconds) {
			// Most logs share their millisecond with the one before.
			const high = Math.floor(milliseconds / halfStep) * nanosecondsPerMillisecond;
			const low = (milliseconds % halfStep) * nanosecondsPerMillisecond;
			const carried = (high % halfStep) * halfStep + Math.trunc(low);
			this.#lastMilliseconds = milliseconds;
			this.#lastLowWord = carried % wordStep;
			this.#lastHighWord = Math.floor(high / halfStep) + Math.floor(carried / wordStep);
		}
		this.#view.setUint32(at, this.#lastLowWord, true);
		this.#view.setUint32(at + 4, this.#lastHighWord, true);
	}

	#level(level: number | undefined): void {
		if (level === undefined || level === Level.UNSPECIFIED) {
			return;
		}
		if (Number.isInteger(level) && level > 0 && level <= Level.FATAL) {
			this.buffer[this.#at] = Tag.level;
			this.buffer[this.#at + 1] = level;
			this.#at += 2;
		} else {
			this.#isTruncated = true;
		}
	}

	#severityNumber(severityNumber: number | undefined): void {
		if (severityNumber === undefined || severityNumber === 0) {
			return;
		}
		const isOne = Number.isInteger(severityNumber) && severityNumber > 0;
		if (isOne && severityNumber <= severityNumberMax) {
			this.buffer[this.#at] = Tag.severityNumber;
			this.buffer[this.#at + 1] = severityNumber;
			this.#at += 2;
		} else {
			this.#isTruncated = true;
		}
	}

	#message(message: unknown): void {
		const text = message === undefined ? "" : toText(message);
		if (text !== "") {
			this.#isTruncated = this.#text(Tag.message, text, messageBytesMax) || this.#isTruncated;
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
			for (const name of Object.keys(attributes)) {
				this.#named(name, read(attributes as Record<string, unknown>, name), hasMeanings);
			}
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
		if (value === undefined || (hasMeanings && this.#takesMeaning(name, value))) {
			return;
		}
		if (value instanceof Error) {
			this.#exception(value);
		} else {
			this.#counted(name, value);
		}
	}

	#exception(error: Error): void {
		this.#counted("exception.type", readText(error, "name"));
		this.#counted("exception.message", readText(error, "message"));
		this.#counted("exception.stacktrace", stackOf(error));
	}

	/** Whether the attribute is a field of the log under another name. */
	#takesMeaning(name: string, value: unknown): boolean {
		switch (name) {
			case "latency_ms":
			case "duration_ms":
				if (typeof value !== "number" || !isLatency(value) || this.#latencyMs !== undefined) {
					return false;
				}
				this.#latencyMs = value;
				return true;
			case "trace_id":
				if (typeof value !== "string" || !isHex(value, 2 * traceIdBytes)) {
					return false;
				}
				this.#traceId = value;
				return true;
			case "span_id":
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
			default:
				return false;
		}
	}

	/** Writes an attribute if there is a place for it, and counts it in any case. */
	#counted(name: string, value: unknown): void {
		this.#attributesSeen += 1;
		if (name === "" || this.#attributes >= attributesMax) {
			// The surplus may need cutting too, but it is left out as a whole.
			return;
		}
		if (this.#attributes === attributesMax - flagsMax) {
			this.#endWithRoomForTwo = this.#at;
		} else if (this.#attributes === attributesMax - 1) {
			this.#endWithRoomForOne = this.#at;
		}
		const key = this.#keyOf(name);
		this.#isTruncated ||= key.isCut;
		this.#attribute(key, key.isHidden ? redacted : value);
		this.#attributes += 1;
	}

	#attribute(key: Key, value: unknown): void {
		const { field } = key;
		this.#room(field.length + attributeFixedBytesMax);
		const { buffer } = this;
		buffer[this.#at] = Tag.attributes;
		const start = this.#at + 2;
		for (let index = 0; index < field.length; index += 1) {
			buffer[start + index] = field[index] as number;
		}
		this.#at = start + field.length;
		this.#value(value);
		this.#closeLength(start);
	}

	/** What is to be known of a name, which most programs use again and again. */
	#keyOf(name: string): Key {
		const known = this.#keys.get(name);
		if (known !== undefined) {
			return known;
		}
		const text = cutText(name, attributeKeyBytesMax);
		const key = {
			field: toField(Tag.key, text),
			isCut: text.length < name.length,
			isHidden: this.#redaction.hides(name),
		};
		if (this.#keys.size < keysKeptMax && name.length <= attributeKeyBytesMax) {
			this.#keys.set(name, key);
		}
		return key;
	}

	/** Writes the length of what was written from `start`, before it. */
	#closeLength(start: number): void {
		const length = this.#at - start;
		const lengthBytes = varintBytes(length);
		if (lengthBytes > 1) {
			this.#room(lengthBytes);
			this.buffer.copyWithin(start + lengthBytes - 1, start, this.#at);
			this.#at += lengthBytes - 1;
		}
		writeVarint(this.buffer, start - 1, length);
	}

	#value(value: unknown): void {
		this.#room(attributeFixedBytesMax);
		switch (typeof value) {
			case "string":
				this.#valueText(Tag.stringValue, value);
				return;
			case "number":
				if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
					this.#int(value);
				} else {
					this.#double(Tag.doubleValue, value);
				}
				return;
			case "boolean":
				this.buffer[this.#at] = Tag.boolValue;
				this.buffer[this.#at + 1] = value ? 1 : 0;
				this.#at += 2;
				return;
			case "bigint":
				this.#bigInt(value);
				return;
			case "object":
				this.#object(value);
				return;
			default:
				this.#valueText(Tag.stringValue, toText(value));
		}
	}

	/** Null has no value on the wire. */
	#object(value: object | null): void {
		if (value === null) {
			return;
		}
		if (isDouble(value)) {
			this.#double(Tag.doubleValue, value.value);
		} else if (value instanceof Date) {
			this.#valueText(Tag.stringValue, dateText(value));
		} else {
			this.#json(isJsonText(value) ? value.text : toJson(value));
		}
	}

	#json(text: string): void {
		if (this.#redaction.hidesJson(text)) {
			this.#valueText(Tag.stringValue, redacted);
			return;
		}
		const tagAt = this.#at;
		if (this.#valueText(Tag.jsonValue, text)) {
			// A part of a JSON text is no JSON text.
			this.buffer[tagAt] = Tag.stringValue;
		}
	}

	#valueText(tag: number, text: string): boolean {
		const wasCut = this.#text(tag, text, attributeValueBytesMax);
		this.#isTruncated ||= wasCut;
		return wasCut;
	}

	/** Writes a text of at most so many bytes. True if it had to be cut. */
	#text(tag: number, text: string, bytesMax: number): boolean {
		const isLonger = text.length > bytesMax;
		const part = isLonger ? text.slice(0, bytesMax) : text;
		this.#room(part.length * unitBytesMax + attributeFixedBytesMax);
		const buffer = this.buffer;
		buffer[this.#at] = tag;
		const lengthAt = this.#at + 1;
		const start = lengthAt + varintBytes(part.length);
		let end = this.#units(start, part);
		const wasCut = isLonger || end - start > bytesMax;
		if (end - start > bytesMax) {
			end = boundaryBefore(buffer, start + bytesMax);
		}
		this.#at = placeLength(buffer, lengthAt, start, end);
		return wasCut;
	}

	/** Writes a text as UTF-8, short and plain ones by a loop. */
	#units(start: number, text: string): number {
		const units = text.length;
		if (units > loopUnitsMax) {
			return this.#writeText(this.buffer, start, text);
		}
		const buffer = this.buffer;
		for (let index = 0; index < units; index += 1) {
			const unit = text.charCodeAt(index);
			if (unit > 0x7f) {
				return this.#writeText(buffer, start, text);
			}
			buffer[start + index] = unit;
		}
		return start + units;
	}

	#int(value: number): void {
		this.buffer[this.#at] = Tag.intValue;
		if (value >= 0 && value <= 0x7fff_ffff) {
			this.#at = writeVarint(this.buffer, this.#at + 1, value);
		} else {
			this.#at = writeBigVarint(this.buffer, this.#at + 1, BigInt(value));
		}
	}

	/** A number that does not fit the wire's whole numbers stays exact as text. */
	#bigInt(value: bigint): void {
		if (BigInt.asIntN(64, value) !== value) {
			this.#valueText(Tag.stringValue, value.toString());
			return;
		}
		this.buffer[this.#at] = Tag.intValue;
		this.#at = writeBigVarint(this.buffer, this.#at + 1, value);
	}

	#double(tag: number, value: number): void {
		this.buffer[this.#at] = tag;
		this.#view.setFloat64(this.#at + 1, value, true);
		this.#at += 9;
	}

	#id(tag: number, id: Uint8Array | string | undefined): void {
		if (id === undefined) {
			return;
		}
		const bytes = typeof id === "string" ? id.length / 2 : id.length;
		this.buffer[this.#at] = tag;
		this.buffer[this.#at + 1] = bytes;
		this.#at += 2;
		for (let index = 0; index < bytes; index += 1) {
			this.buffer[this.#at + index] =
				typeof id === "string" ? hexByte(id, 2 * index) : (id[index] as number);
		}
		this.#at += bytes;
	}

	#room(bytes: number): void {
		if (this.#at + bytes <= this.buffer.length) {
			return;
		}
		const larger = this.#allocate(Math.max(2 * this.buffer.length, this.#at + bytes));
		larger.set(this.buffer.subarray(0, this.#at));
		this.buffer = larger;
		this.#view = viewOf(larger);
	}
}

/** A text as a field. */
function toField(tag: number, text: string): Uint8Array {
	const bytes = new TextEncoder().encode(text);
	const lengthBytes = varintBytes(bytes.length);
	const field = new Uint8Array(1 + lengthBytes + bytes.length);
	field[0] = tag;
	writeVarint(field, 1, bytes.length);
	field.set(bytes, 1 + lengthBytes);
	return field;
}

function viewOf(buffer: Uint8Array): DataView {
	return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

function isTimeUnixNano(time: unknown): time is bigint {
	return typeof time === "bigint" && BigInt.asUintN(timeBits, time) === time;
}

function isLatency(value: number): boolean {
	return Number.isFinite(value) && value >= 0;
}

function read(attributes: Record<string, unknown>, name: string): unknown {
	try {
		return attributes[name];
	} catch (error) {
		return unreadable(error);
	}
}

function readText(error: Error, name: "name" | "message"): string {
	return toText(read(error as unknown as Record<string, unknown>, name));
}

function stackOf(error: Error): unknown {
	const stack = read(error as unknown as Record<string, unknown>, "stack");
	return typeof stack === "string" ? stack : toText(error);
}

function dateText(date: Date): string {
	return Number.isNaN(date.getTime()) ? "Invalid Date" : date.toISOString();
}

const hexDigits = new Int8Array(128).fill(-1);
for (let digit = 0; digit < 16; digit += 1) {
	hexDigits[digit.toString(16).charCodeAt(0)] = digit;
	hexDigits[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
}

function hexDigit(text: string, at: number): number {
	return hexDigits[text.charCodeAt(at)] ?? -1;
}

function hexByte(text: string, at: number): number {
	return hexDigit(text, at) * 16 + hexDigit(text, at + 1);
}

function isHex(text: string, digits: number): boolean {
	if (text.length !== digits) {
		return false;
	}
	for (let index = 0; index < digits; index += 1) {
		if (hexDigit(text, index) < 0) {
			return false;
		}
	}
	return true;
}

/** The last place, up to one, where no character of UTF-8 is cut in two. */
function boundaryBefore(buffer: Uint8Array, at: number): number {
	let boundary = at;
	while (((buffer[boundary] as number) & 0xc0) === 0x80) {
		boundary -= 1;
	}
	return boundary;
}

/** Writes the length of a text before it, and moves the text if the length takes another size. */
function placeLength(buffer: Uint8Array, lengthAt: number, start: number, end: number): number {
	const length = end - start;
	const textAt = lengthAt + varintBytes(length);
	if (textAt !== start) {
		buffer.copyWithin(textAt, start, end);
	}
	writeVarint(buffer, lengthAt, length);
	return textAt + length;
}

function varintBytes(value: number): number {
	if (value < 0x80) {
		return 1;
	}
	if (value < 0x4000) {
		return 2;
	}
	return value < 0x20_0000 ? 3 : 4;
}

function writeVarint(buffer: Uint8Array, at: number, value: number): number {
	let rest = value;
	let end = at;
	while (rest > 0x7f) {
		buffer[end] = (rest & 0x7f) | 0x80;
		rest >>>= 7;
		end += 1;
	}
	buffer[end] = rest;
	return end + 1;
}

function writeBigVarint(buffer: Uint8Array, at: number, value: bigint): number {
	let rest = BigInt.asUintN(64, value);
	let end = at;
	while (rest > 0x7fn) {
		buffer[end] = Number(rest & 0x7fn) | 0x80;
		rest >>= 7n;
		end += 1;
	}
	buffer[end] = Number(rest);
	return end + 1;
}
