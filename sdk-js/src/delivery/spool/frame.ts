/**
 * The form of a batch on disk, and how it is found again in a damaged file. Pure.
 *
 * A frame is `magic, payload length, payload checksum, header checksum`, each 4 bytes, little endian,
 * then the payload: what is known of the batch, and its bytes. Both checksums (CRC-32) start from the
 * salt of the folder. It is random, so that a log whose text imitates a frame is never taken for one
 * where a damaged file is searched for the next frame.
 */

import * as zlib from "node:zlib";
import type { EncodedBatch } from "../batch.js";

const magic = Uint8Array.from([0x4c, 0x77, 0x46, 0x31]);
const headerBytes = 16;
/** The part of the header that its own checksum covers. */
const checkedHeaderBytes = 12;
const factsBytes = 52;
/** What a frame adds to the request. */
const frameHeadBytes = headerBytes + factsBytes;
/** Size of one mark in a file of acknowledgements. */
const markBytes = 12;
const idBytes = 16;

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
	let value = byte;
	for (let bit = 0; bit < 8; bit += 1) {
		value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1;
	}
	return value;
});

/** CRC-32, continued from another checksum. */
function crc32ByTable(bytes: Uint8Array, start: number): number {
	let value = ~start;
	for (const byte of bytes) {
		value = (value >>> 8) ^ (table[(value ^ byte) & 0xff] as number);
	}
	return ~value >>> 0;
}

/** Node's own where it has one, from 20.15 and 22.2 on. */
const checksum: (bytes: Uint8Array, start: number) => number =
	(zlib as { crc32?: (bytes: Uint8Array, start: number) => number }).crc32 ?? crc32ByTable;

/** The salt of a folder, from its random name. */
export function salt(folderName: string): number {
	return checksum(Buffer.from(folderName), 0);
}

/** What stands before the request in a batch's frame. */
export function frameHead(folderSalt: number, batch: EncodedBatch): Uint8Array {
	const head = new Uint8Array(frameHeadBytes);
	const view = new DataView(head.buffer);
	view.setBigInt64(headerBytes, batch.createdUnixNano, true);
	view.setBigUint64(headerBytes + 8, batch.sequence, true);
	view.setUint32(headerBytes + 16, batch.recordCount, true);
	head.set(batch.batchId, headerBytes + 20);
	head.set(batch.producerId, headerBytes + 36);
	// The checksum goes on over the request, which is never copied for it.
	const facts = checksum(head.subarray(headerBytes), folderSalt);
	head.set(magic);
	view.setUint32(4, factsBytes + batch.request.length, true);
	view.setUint32(8, checksum(batch.request, facts), true);
	view.setUint32(12, checksum(head.subarray(0, checkedHeaderBytes), folderSalt), true);
	return head;
}

/** A batch found in a segment. */
export interface Frame {
	offset: number;
	length: number;
	batch: EncodedBatch;
}

/** The frame at a place; undefined if there is no whole, sound one. */
export function decodeFrame(
	folderSalt: number,
	data: Uint8Array,
	offset: number,
): Frame | undefined {
	const header = readHeader(folderSalt, data, offset);
	if (typeof header === "string" || header.payloadBytes < factsBytes) {
		return undefined;
	}
	const end = offset + headerBytes + header.payloadBytes;
	const payload = data.subarray(offset + headerBytes, end);
	const isWhole = payload.length === header.payloadBytes;
	if (!isWhole || checksum(payload, folderSalt) !== header.payloadChecksum) {
		return undefined;
	}
	return { offset, length: end - offset, batch: readBatch(payload) };
}

function readBatch(payload: Uint8Array): EncodedBatch {
	const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
	return {
		createdUnixNano: view.getBigInt64(0, true),
		sequence: view.getBigUint64(8, true),
		recordCount: view.getUint32(16, true),
		batchId: payload.slice(20, 20 + idBytes),
		producerId: payload.slice(36, 36 + idBytes),
		request: payload.subarray(factsBytes),
	};
}

interface Header {
	payloadBytes: number;
	payloadChecksum: number;
}

function readHeader(
	folderSalt: number,
	data: Uint8Array,
	offset: number,
): Header | "cut off" | "damaged" {
	const header = data.subarray(offset, offset + headerBytes);
	if (header.length < headerBytes) {
		return "cut off";
	}
	const view = new DataView(header.buffer, header.byteOffset, headerBytes);
	const expected = checksum(header.subarray(0, checkedHeaderBytes), folderSalt);
	if (!startsWithMagic(header) || expected !== view.getUint32(12, true)) {
		return "damaged";
	}
	return { payloadBytes: view.getUint32(4, true), payloadChecksum: view.getUint32(8, true) };
}

/** Whether bytes begin as a frame does, as far as they go. */
function startsWithMagic(bytes: Uint8Array): boolean {
	return magic.every((byte, index) => index >= bytes.length || bytes[index] === byte);
}

/** What lies at a place of a segment, as far as a scan got. */
export interface Scan {
	frames: Frame[];
	/** Runs of bytes that are no frame, other than the last frame cut off by a crash. */
	damagedRuns: number;
}

/**
 * Finds every sound frame, whatever lies between them. Hands over after each frame, so that a caller
 * may do other things between them.
 */
export function* scan(folderSalt: number, data: Uint8Array): Generator<Frame, number> {
	let offset = 0;
	let damagedRuns = 0;
	let isInDamage = false;
	while (offset < data.length) {
		const frame = decodeFrame(folderSalt, data, offset);
		if (frame !== undefined) {
			yield frame;
			offset += frame.length;
			isInDamage = false;
			continue;
		}
		if (!isInDamage && !isCutOff(folderSalt, data, offset)) {
			damagedRuns += 1;
		}
		isInDamage = true;
		offset = nextMagic(data, offset + 1);
	}
	return damagedRuns;
}

/** Whether a frame starts here that the end of the file cuts off: a crash while writing, no damage. */
function isCutOff(folderSalt: number, data: Uint8Array, offset: number): boolean {
	const header = readHeader(folderSalt, data, offset);
	if (header === "damaged") {
		return false;
	}
	if (header === "cut off") {
		return startsWithMagic(data.subarray(offset));
	}
	return data.length - offset - headerBytes < header.payloadBytes;
}

/** The next place from one on where a frame may start. */
function nextMagic(data: Uint8Array, from: number): number {
	const bytes = Buffer.from(data.buffer, data.byteOffset, data.length);
	const found = bytes.indexOf(magic, from);
	return found < 0 ? data.length : found;
}

/** The mark that the frame at an offset is done with. */
export function encodeMark(folderSalt: number, offset: number | bigint): Uint8Array {
	const mark = new Uint8Array(markBytes);
	const view = new DataView(mark.buffer);
	view.setBigUint64(0, BigInt(offset), true);
	view.setUint32(8, checksum(mark.subarray(0, 8), folderSalt), true);
	return mark;
}

/**
 * The offsets marked in a file of acknowledgements. A damaged mark is left out: its batch is sent once
 * more, which is harmless.
 */
export function decodeMarks(folderSalt: number, data: Uint8Array): Set<number> {
	const offsets = new Set<number>();
	for (let at = 0; at + markBytes <= data.length; at += markBytes) {
		const mark = Buffer.from(data.subarray(at, at + markBytes));
		const offset = mark.readBigUInt64LE(0);
		if (mark.equals(encodeMark(folderSalt, offset))) {
			offsets.add(Number(offset));
		}
	}
	return offsets;
}
