/**
 * Fields of protobuf, written by hand into one buffer that is used again and again: this runs at each call
 * of the program, so that there is no object and no intermediate form of a log.
 *
 * Fields of a fixed size need room made for them before, by [Writer.room]; texts make their own.
 */

import { unitBytesMax } from "./limits.js";

/** Writes a text as UTF-8 into a buffer that has room, and returns the end. */
export type WriteText = (buffer: Uint8Array, at: number, text: string) => number;

const bufferBytes = 64 << 10;
/** A buffer that one large log made larger than this is not kept. */
const bufferKeptBytesMax = 512 << 10;
/** The tag and the longest length of a text. */
const textFramingBytesMax = 6;
/** Up to so many UTF-16 units a loop is quicker than a call. All limits of texts are larger. */
const loopUnitsMax = 48;
const asciiMax = 0x7f;
/** A length up to this takes one byte. */
const shortLengthMax = 0x7f;
export const nanosecondsPerMillisecond = 1_000_000;
/** What half a word of 32 bits, and a whole one, count up to. */
const halfStep = 0x1_0000;
const wordStep = 0x1_0000_0000;
/** Whole numbers of the wire have a sign and so many bits. */
export const intBits = 64;

export class Writer {
	readonly #allocate: (bytes: number) => Uint8Array;
	readonly #writeText: WriteText;
	#view: DataView;
	/** The time that was written last, and its words. */
	#lastMilliseconds = 0;
	#lastLowWord = 0;
	#lastHighWord = 0;
	buffer: Uint8Array;
	/** Where the next field goes. */
	at = 0;

	constructor(allocate: (bytes: number) => Uint8Array, writeText: WriteText) {
		this.#allocate = allocate;
		this.#writeText = writeText;
		this.buffer = allocate(bufferBytes);
		this.#view = viewOf(this.buffer);
	}

	/** Begins anew, at a place. */
	begin(at: number): void {
		if (this.buffer.length > bufferKeptBytesMax) {
			this.buffer = this.#allocate(bufferBytes);
			this.#view = viewOf(this.buffer);
		}
		this.at = at;
	}

	/** Sees to it that so many bytes more fit. */
	room(bytes: number): void {
		if (this.at + bytes > this.buffer.length) {
			this.#grow(bytes);
		}
	}

	#grow(bytes: number): void {
		const larger = this.#allocate(Math.max(2 * this.buffer.length, this.at + bytes));
		larger.set(this.buffer.subarray(0, this.at));
		this.buffer = larger;
		this.#view = viewOf(larger);
	}

	/** Copies a few bytes, by a loop: most are too few for a call. */
	bytes(bytes: Uint8Array): void {
		const { buffer, at } = this;
		for (let index = 0; index < bytes.length; index += 1) {
			buffer[at + index] = bytes[index] as number;
		}
		this.at = at + bytes.length;
	}

	/** A whole number below 128, or a boolean. */
	small(tag: number, value: number): void {
		this.buffer[this.at] = tag;
		this.buffer[this.at + 1] = value;
		this.at += 2;
	}

	int(tag: number, value: number): void {
		if (value >= 0 && value <= 0x7fff_ffff) {
			this.buffer[this.at] = tag;
			this.at = writeVarint(this.buffer, this.at + 1, value);
		} else {
			this.bigInt(tag, BigInt(value));
		}
	}

	/** An integer of 64 bits. */
	bigInt(tag: number, value: bigint): void {
		this.buffer[this.at] = tag;
		this.at = writeBigVarint(this.buffer, this.at + 1, value);
	}

	double(tag: number, value: number): void {
		this.buffer[this.at] = tag;
		this.#view.setFloat64(this.at + 1, value, true);
		this.at += 9;
	}

	fixed64(tag: number, value: bigint): void {
		this.buffer[this.at] = tag;
		this.#view.setBigUint64(this.at + 1, value, true);
		this.at += 9;
	}

	/** Milliseconds as nanoseconds of 64 bits, by halves, since there is no exact number so large. */
	nanoseconds(tag: number, milliseconds: number): void {
		if (milliseconds !== this.#lastMilliseconds) {
			// Most logs share their millisecond with the one before.
			const high = Math.floor(milliseconds / halfStep) * nanosecondsPerMillisecond;
			const low = (milliseconds % halfStep) * nanosecondsPerMillisecond;
			const carried = (high % halfStep) * halfStep + Math.trunc(low);
			this.#lastMilliseconds = milliseconds;
			this.#lastLowWord = carried % wordStep;
			this.#lastHighWord = Math.floor(high / halfStep) + Math.floor(carried / wordStep);
		}
		this.buffer[this.at] = tag;
		this.#view.setUint32(this.at + 1, this.#lastLowWord, true);
		this.#view.setUint32(this.at + 5, this.#lastHighWord, true);
		this.at += 9;
	}

	/** Bytes, given as such or as hexadecimal digits. */
	id(tag: number, id: Uint8Array | string): void {
		const bytes = typeof id === "string" ? id.length / 2 : id.length;
		this.small(tag, bytes);
		for (let index = 0; index < bytes; index += 1) {
			this.buffer[this.at + index] =
				typeof id === "string" ? hexByte(id, 2 * index) : (id[index] as number);
		}
		this.at += bytes;
	}

	/** A text of at most so many bytes. True if it had to be cut. */
	text(tag: number, text: string, bytesMax: number): boolean {
		// The most that it may take, so that nothing has to be checked while it is written.
		this.room(Math.min(text.length, bytesMax) * unitBytesMax + textFramingBytesMax);
		return !this.#asciiText(tag, text) && this.#anyText(tag, text, bytesMax);
	}

	/** Writes a text that is short and plain, as most are. False if it is not. */
	#asciiText(tag: number, text: string): boolean {
		const units = text.length;
		if (units > loopUnitsMax) {
			return false;
		}
		const { buffer, at } = this;
		const start = at + 2;
		for (let index = 0; index < units; index += 1) {
			const unit = text.charCodeAt(index);
			if (unit > asciiMax) {
				return false;
			}
			buffer[start + index] = unit;
		}
		buffer[at] = tag;
		buffer[at + 1] = units;
		this.at = start + units;
		return true;
	}

	#anyText(tag: number, text: string, bytesMax: number): boolean {
		const { buffer, at } = this;
		const isLonger = text.length > bytesMax;
		const part = isLonger ? text.slice(0, bytesMax) : text;
		const start = at + 1 + varintBytes(part.length);
		const end = this.#writeText(buffer, start, part);
		const isOver = end - start > bytesMax;
		const keptEnd = isOver ? boundaryBefore(buffer, start + bytesMax) : end;
		buffer[at] = tag;
		this.at = placeLength(buffer, at + 1, start, keptEnd);
		return isLonger || isOver;
	}

	/** Writes the length of what was written from `start`, before it, where one byte is left for it. */
	closeLength(start: number): void {
		const length = this.at - start;
		if (length <= shortLengthMax) {
			this.buffer[start - 1] = length;
		} else {
			this.room(varintBytes(length));
			this.at = placeLength(this.buffer, start - 1, start, this.at);
		}
	}

	/** Writes tag and length of everything from `start`, right before it, and returns where they begin. */
	frame(tag: number, start: number): number {
		const length = this.at - start;
		const tagAt = start - varintBytes(length) - 1;
		this.buffer[tagAt] = tag;
		writeVarint(this.buffer, tagAt + 1, length);
		return tagAt;
	}
}

function viewOf(buffer: Uint8Array): DataView {
	return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
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

/** Whether a text is so many hexadecimal digits. */
export function isHex(text: string, digits: number): boolean {
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
	// Bytes that begin with the bits 10 continue a character of UTF-8.
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

export function varintBytes(value: number): number {
	if (value < 0x80) {
		return 1;
	}
	if (value < 0x4000) {
		return 2;
	}
	return value < 0x20_0000 ? 3 : 4;
}

/** Writes a whole number, and returns the end. */
export function writeVarint(buffer: Uint8Array, at: number, value: number): number {
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
	let rest = BigInt.asUintN(intBits, value);
	let end = at;
	while (rest > 0x7fn) {
		buffer[end] = Number(rest & 0x7fn) | 0x80;
		rest >>= 7n;
		end += 1;
	}
	buffer[end] = Number(rest);
	return end + 1;
}
