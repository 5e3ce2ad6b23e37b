// Whatever a program hands over becomes a log within the limits, and nothing reaches the program.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { LogRecordSchema } from "../dist/esm/generated/logweir/v1/log_pb.js";
import { Level } from "../dist/esm/index.js";
import { toLevel } from "../dist/esm/record/record.js";
import { decoded, decodedPlain, encoderOf, platforms, recordIn } from "./support/encoder.mjs";

const circle = { name: "circle" };
circle.itself = circle;
const throwing = {
	get value() {
		throw new Error("no value");
	},
};

const nowUnixMs = 1_700_000_000_000;

function values(record) {
	return Object.fromEntries(record.attributes.map(({ key, value }) => [key, value.value]));
}

describe("values of attributes", () => {
	const cases = {
		text: ["x", "stringValue", "x"],
		"whole number": [42, "intValue", 42n],
		"negative number": [-1, "intValue", -1n],
		"largest exact number": [Number.MAX_SAFE_INTEGER, "intValue", BigInt(Number.MAX_SAFE_INTEGER)],
		"number beyond": [2 ** 60, "doubleValue", 2 ** 60],
		fraction: [0.5, "doubleValue", 0.5],
		"minus zero": [-0, "doubleValue", -0],
		infinity: [Number.POSITIVE_INFINITY, "doubleValue", Number.POSITIVE_INFINITY],
		true: [true, "boolValue", true],
		"large integer": [2n ** 63n - 1n, "intValue", 2n ** 63n - 1n],
		"integer beyond 64 bits": [2n ** 63n, "stringValue", "9223372036854775808"],
		nothing: [null, undefined, undefined],
		date: [new Date(0), "stringValue", "1970-01-01T00:00:00.000Z"],
		"no date": [new Date(Number.NaN), "stringValue", "Invalid Date"],
		symbol: [Symbol("s"), "stringValue", "Symbol(s)"],
		object: [{ a: [1] }, "jsonValue", '{"a":[1]}'],
		circle: [circle, "jsonValue", '{"name":"circle","itself":"[circular]"}'],
		"integer within": [{ n: 1n }, "jsonValue", '{"n":"1"}'],
		"getter that throws": [throwing, "jsonValue", '"[unreadable: no value]"'],
		"lone surrogate": ["a\ud800b", "stringValue", "a\ufffdb"],
	};
	for (const [name, [value, kind, expected]] of Object.entries(cases)) {
		for (const [platformName, platform] of Object.entries(platforms)) {
			test(`${name}, ${platformName}`, () => {
				const record = decodedPlain(encoderOf(platform), Level.INFO, "m", { value });
				assert.deepEqual(
					record.attributes.map(({ value }) => value),
					[kind === undefined ? { case: undefined } : { case: kind, value: expected }],
				);
			});
		}
	}
});

test("undefined is left out, a function is named, an attribute that throws says so", () => {
	const attributes = { a: undefined, f() {}, ...{ b: 1 } };
	Object.defineProperty(attributes, "t", {
		enumerable: true,
		get() {
			throw new Error("no t");
		},
	});
	const record = decodedPlain(encoderOf(platforms.node), Level.INFO, "m", attributes);
	assert.deepEqual(Object.keys(values(record)), ["f", "b", "t"]);
	assert.equal(values(record).t, "[unreadable: no t]");
});

test("an error becomes three attributes, as a message too", () => {
	const error = new TypeError("boom");
	const encoder = encoderOf(platforms.node);
	for (const record of [
		decodedPlain(encoder, Level.ERROR, error),
		decodedPlain(encoder, Level.ERROR, "boom", { error }),
	]) {
		assert.equal(record.message, "boom");
		assert.deepEqual(values(record), {
			"exception.type": "TypeError",
			"exception.message": "boom",
			"exception.stacktrace": error.stack,
		});
	}
});

test("attributes of any kind are kept: an error, pairs, a list, a value without a name", () => {
	const encoder = encoderOf(platforms.node);
	const kept = (attributes) => values(decodedPlain(encoder, Level.INFO, "m", attributes));
	assert.equal(kept(new TypeError("boom"))["exception.message"], "boom");
	assert.deepEqual(kept(new Map([["a", 1]])), { a: 1n });
	assert.deepEqual(kept(["x", { y: 1 }]), { 0: "x", 1: '{"y":1}' });
	assert.deepEqual(kept("x"), { value: "x" });
	assert.deepEqual(kept(null), {});
});

test("latency, ids and logger are fields of the log", () => {
	const traceId = "0af7651916cd43dd8448eb211c80319c";
	const attributes = {
		duration_ms: 2.5,
		trace_id: traceId,
		span_id: "b7ad6b7169203331",
		logger: "l",
	};
	const record = decodedPlain(encoderOf(platforms.node), Level.INFO, "m", { ...attributes, a: 1 });
	assert.equal(record.latencyMs, 2.5);
	assert.equal(Buffer.from(record.traceId).toString("hex"), traceId);
	assert.equal(Buffer.from(record.spanId).toString("hex"), "b7ad6b7169203331");
	assert.equal(record.logger, "l");
	assert.deepEqual(values(record), { a: 1n });
	const odd = { latency_ms: -1, trace_id: "xyz", span_id: 5, logger: 7 };
	const kept = decodedPlain(encoderOf(platforms.node), Level.INFO, "m", odd);
	assert.deepEqual(Object.keys(values(kept)), Object.keys(odd));
});

test("the values of the package's other copy are known", () => {
	const { json, double } = createRequire(import.meta.url)("../dist/cjs/index.js");
	const values = { a: json('{"x":1}'), b: double(1) };
	const record = decodedPlain(encoderOf(platforms.node), Level.INFO, "m", values);
	assert.deepEqual(
		record.attributes.map(({ value }) => value),
		[
			{ case: "jsonValue", value: '{"x":1}' },
			{ case: "doubleValue", value: 1 },
		],
	);
});

test("an invalid time becomes that of the call, and the log says so", () => {
	const encoder = encoderOf(platforms.node);
	const callTime = BigInt(nowUnixMs) * 1_000_000n;
	const flag = (record) => values(record)["logweir.truncated"];
	for (const timeUnixNano of [-5n, 2n ** 64n, 5]) {
		const record = decoded(encoder, { message: "m", timeUnixNano }, nowUnixMs);
		assert.deepEqual([record.timeUnixNano, flag(record)], [callTime, true]);
	}
	for (const timeUnixMs of [
		-5,
		1e-9,
		Number.NaN,
		Number.POSITIVE_INFINITY,
		2 ** 64 / 1e6,
		"now",
		5n,
	]) {
		const end = encoder.encodePlain(Level.INFO, "m", undefined, undefined, timeUnixMs, nowUnixMs);
		const record = recordIn(encoder, end);
		assert.deepEqual([record.timeUnixNano, flag(record)], [callTime, true], String(timeUnixMs));
	}
});

test("a time is kept, and without one, which is 0 on the wire, it is that of the call", () => {
	const encoder = encoderOf(platforms.node);
	for (const [timeUnixMs, expected] of [
		[undefined, nowUnixMs],
		[0, nowUnixMs],
		[5, 5],
		[1e-6, 1e-6],
	]) {
		const end = encoder.encodePlain(Level.INFO, "m", undefined, undefined, timeUnixMs, nowUnixMs);
		const record = recordIn(encoder, end);
		assert.deepEqual([record.timeUnixNano, values(record)], [BigInt(expected * 1_000_000), {}]);
	}
});

test("null is a field that is absent", () => {
	const encoder = encoderOf(platforms.node);
	for (const name of Object.keys(anyRecordFields)) {
		assert.deepEqual(decoded(encoder, { [name]: null }), decoded(encoder, {}), name);
	}
});

test("levels have the names that other libraries give them too", () => {
	assert.equal(toLevel("warning"), Level.WARN);
	assert.equal(toLevel("Critical"), Level.FATAL);
});

const anyText = fc.oneof(
	fc.string({ unit: "binary" }),
	fc
		.string({ unit: "binary", maxLength: 8 })
		.chain((text) => fc.integer({ min: 1, max: 20_000 }).map((times) => text.repeat(times))),
	fc.constant("\ud800"),
);
const anyRecordFields = {
	timeUnixNano: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
	level: fc.integer({ min: -1, max: 9 }),
	severityNumber: fc.integer({ min: 0, max: 30 }),
	message: anyText,
	latencyMs: fc.option(fc.double(), { nil: undefined }),
	traceId: fc.uint8Array({ minLength: 0, maxLength: 20 }),
	spanId: fc.uint8Array({ minLength: 0, maxLength: 12 }),
	logger: anyText,
	attributes: fc.array(fc.tuple(anyText, fc.oneof(anyText, fc.anything(), fc.bigInt())), {
		maxLength: 140,
	}),
};
const anyRecord = fc.record(anyRecordFields);

test("any log is within the limits afterwards, the same on both platforms, and again", () => {
	const node = encoderOf(platforms.node);
	const browser = encoderOf(platforms.browser);
	const bytesOf = (text) => Buffer.byteLength(text);
	fc.assert(
		fc.property(anyRecord, (given) => {
			const record = decoded(node, given);
			assert.ok(bytesOf(record.message) <= 65_536);
			assert.ok(bytesOf(record.logger) <= 256);
			assert.ok(record.attributes.length <= 128);
			for (const { key, value } of record.attributes) {
				assert.ok(bytesOf(key) >= 1 && bytesOf(key) <= 256);
				assert.ok(typeof value.value !== "string" || bytesOf(value.value) <= 16_384);
			}
			const binary = (message) => toBinary(LogRecordSchema, message);
			assert.deepEqual(binary(decoded(browser, given)), binary(record));
			const attributes = record.attributes.map(({ key, value }) => [key, value.value ?? null]);
			const again = decoded(node, { ...record, attributes });
			assert.equal(again.message, record.message);
			assert.equal(again.attributes.length, record.attributes.length);
		}),
		{ numRuns: 300 },
	);
});
