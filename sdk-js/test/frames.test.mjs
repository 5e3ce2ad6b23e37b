// Frames on disk: damage costs what is damaged and no more.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeMarks, frameHead, scan } from "../dist/esm/delivery/spool/frame.js";

const salt = 0xdead_beef;
const payloads = fc.array(fc.uint8Array({ maxLength: 200 }), { minLength: 1, maxLength: 8 });

function file(requests) {
	const parts = [];
	const ends = [];
	let end = 0;
	requests.forEach((request, index) => {
		const batch = {
			createdUnixNano: -5n,
			sequence: BigInt(index),
			recordCount: 3,
			batchId: new Uint8Array(16).fill(index),
			producerId: new Uint8Array(16).fill(7),
			request,
		};
		const head = frameHead(salt, batch);
		parts.push(head, request);
		end += head.length + request.length;
		ends.push(end);
	});
	return { data: Buffer.concat(parts), ends };
}

function found(data) {
	const scanning = scan(salt, data);
	const sequences = [];
	let next = scanning.next();
	for (; !next.done; next = scanning.next()) {
		sequences.push(Number(next.value.batch.sequence));
	}
	return { sequences, damagedRuns: next.value };
}

test("a flipped bit costs the frame it lies in and no other", () => {
	fc.assert(
		fc.property(payloads, fc.nat(), fc.integer({ min: 0, max: 7 }), (requests, place, bit) => {
			const { data, ends } = file(requests);
			const at = place % data.length;
			data[at] ^= 1 << bit;
			const hit = ends.findIndex((end) => at < end);
			const expected = ends.map((_, index) => index).filter((index) => index !== hit);
			assert.deepEqual(found(data), { sequences: expected, damagedRuns: 1 });
		}),
		{ numRuns: 1_000 },
	);
});

test("a file cut off anywhere keeps its whole frames and is not called damaged", () => {
	fc.assert(
		fc.property(payloads, fc.nat(), (requests, place) => {
			const { data, ends } = file(requests);
			const at = place % (data.length + 1);
			const whole = ends.filter((end) => end <= at).map((_, index) => index);
			assert.deepEqual(found(data.subarray(0, at)), { sequences: whole, damagedRuns: 0 });
		}),
		{ numRuns: 1_000 },
	);
});

test("any bytes are survived", () => {
	fc.assert(
		fc.property(fc.uint8Array({ maxLength: 2_000 }), (data) => {
			assert.deepEqual(found(data).sequences, []);
			assert.ok(decodeMarks(salt, data).size <= data.length);
		}),
	);
});
