// The vectors of the contract, all but the accounts, which need a server.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { resolveConfig } from "../dist/esm/config.js";
import { Batcher, batchId, halves, without } from "../dist/esm/delivery/batch.js";
import { Queue } from "../dist/esm/delivery/queue.js";
import { EndpointPool, retryPolicyDefault } from "../dist/esm/delivery/retry.js";
import {
	decodeMarks,
	encodeMark,
	frameHead,
	salt,
	scan,
} from "../dist/esm/delivery/spool/frame.js";
import { isDead } from "../dist/esm/delivery/spool/owner.js";
import { ConfigError } from "../dist/esm/errors.js";
import { BatchSchema, IngestRequestSchema } from "../dist/esm/generated/logweir/v1/ingest_pb.js";
import { LogRecordSchema, Level as WireLevel } from "../dist/esm/generated/logweir/v1/log_pb.js";
import { nodePlatform } from "../dist/esm/platform/node.js";
import { redactKeysDefault } from "../dist/esm/record/redaction.js";
import { isKept } from "../dist/esm/record/sampling.js";
import {
	childOf,
	formatTraceparent,
	newTrace,
	parseTraceparent,
} from "../dist/esm/record/trace.js";
import { decoded, encoderOf, platforms } from "./support/encoder.mjs";
import {
	bytes,
	hex,
	programAttributes,
	programRecord,
	vectors,
	wireAttributes,
	wireBatch,
	wireRecord,
	wireResource,
} from "./support/vectors.mjs";

const { sha256 } = nodePlatform;

function assertSame(schema, actual, expected) {
	const binary = (message) => hex(toBinary(schema, message));
	assert.equal(binary(actual), binary(expected), JSON.stringify(toJson(schema, actual)));
}

// The records of a batch as a queue gives them out.
function recordsOf(records) {
	const encoder = encoderOf(nodePlatform);
	const queue = new Queue(
		{
			recordsMax: 1_000,
			bytesMax: 1 << 20,
			wakeRecords: 1,
			wakeBytes: 1,
			urgent: 6,
			policy: "oldest",
		},
		nodePlatform.allocate,
	);
	for (const record of records) {
		const end = encoder.encode(programRecord(record), false, undefined, 0);
		queue.push(encoder.buffer, encoder.start, end, 3, 0, "queue_overflow");
	}
	return queue.take(records.length, 1 << 20).records;
}

function countsOf({ dropped, ...counts }) {
	const { moved = 0, ...reasons } = dropped;
	return { ...counts, dropped: reasons, moved };
}

// What a batcher makes of a vector's batch.
function builtBatch(batch, createdUnixNano = 0n) {
	const { account } = batch.producer;
	const batcher = new Batcher(bytes(batch.producer.producer_id), wireResource(batch.resource));
	const records = recordsOf(batch.records);
	const random = new Uint8Array(10);
	const build = (...parts) => batcher.build(...parts, countsOf(account), createdUnixNano, random);
	for (let sequence = 1; sequence < batch.producer.sequence; sequence += 1) {
		build(new Uint8Array(), 0);
	}
	return build(records, batch.records.length);
}

function batchOf(encoded) {
	return fromBinary(IngestRequestSchema, encoded.request).batch;
}

function anySdk(batch) {
	batch.producer.sdkName = "logweir-sdk-test";
	batch.producer.sdkVersion = "1.2.3";
	return batch;
}

describe("limits", () => {
	for (const { name, record, expected } of vectors("limits").cases) {
		for (const [platformName, platform] of Object.entries(platforms)) {
			test(`${name}, ${platformName}`, () => {
				const fitted = decoded(encoderOf(platform), programRecord(record));
				assertSame(LogRecordSchema, fitted, wireRecord(expected));
			});
		}
	}
});

describe("filters", () => {
	const { redaction, sampling } = vectors("filters");
	for (const { name, attributes, expected, redact_keys = redactKeysDefault } of redaction) {
		test(`redaction: ${name}`, () => {
			const encoder = encoderOf(nodePlatform, redact_keys);
			const record = decoded(encoder, { attributes: programAttributes(attributes) });
			assert.deepEqual(record.attributes, wireAttributes(expected));
		});
	}
	for (const { name, sample_rates, draws } of sampling) {
		test(`sampling: ${name}`, () => {
			const { sampleRates } = resolveConfig({ sampleRates: sample_rates }, factsOf({}, {}));
			for (const [level, draw, expected] of draws) {
				assert.equal(
					isKept(sampleRates, WireLevel[level], () => draw),
					expected,
					level,
				);
			}
		});
	}
});

describe("drops", () => {
	for (const { name, bounds, push, kept, dropped } of vectors("drops").cases) {
		test(name, () => {
			const { policy, records_max: recordsMax, bytes_max: bytesMax } = bounds;
			const wake = { wakeRecords: 1_000, wakeBytes: 1 << 20, urgent: 6 };
			const queue = new Queue({ policy, recordsMax, bytesMax, ...wake }, nodePlatform.allocate, 0);
			let number = 0;
			for (const { level, times = 1, bytes: length = 1 } of push) {
				for (let time = 0; time < times; time += 1) {
					const log = new Uint8Array(length).fill(number);
					queue.push(log, 0, length, WireLevel[level], 0, "queue_overflow");
					number += 1;
				}
			}
			const numbers = [];
			while (queue.length > 0) {
				const { records } = queue.take(1, 1 << 20);
				numbers.push(records[records.length - 1]);
			}
			assert.deepEqual(numbers, kept);
			assert.equal(queue.dropped.queue_overflow ?? 0, dropped);
		});
	}
});

describe("batches", () => {
	const { batch_ids, derived, encoded, built, splits, repairs } = vectors("batches");

	test("ids of a time and random bytes", () => {
		for (const { now_unix_nano, random, batch_id } of batch_ids) {
			assert.equal(hex(batchId(BigInt(now_unix_nano), bytes(random))), batch_id);
		}
	});

	test("ids that follow from another", () => {
		for (const ids of derived) {
			const whole = { ...builtBatch(splits[0].whole), batchId: bytes(ids.batch_id) };
			const [first, second] = halves(whole, sha256);
			const repaired = without(whole, [0], "send_error", sha256);
			assert.equal(hex(first.batchId), ids.first_half);
			assert.equal(hex(second.batchId), ids.second_half);
			assert.equal(hex(second.producerId), ids.second_producer);
			assert.equal(hex(repaired.batchId), ids.repaired);
		}
	});

	for (const { name, batch, request } of encoded) {
		test(`encoded: ${name}`, () => {
			assertSame(BatchSchema, batchOf({ request: bytes(request) }), wireBatch(batch));
			const own = anySdk(batchOf(builtBatch(batch)));
			own.batchId = bytes(batch.batch_id);
			const expected = wireBatch(batch);
			for (const record of [...own.records, ...expected.records]) {
				// A record without a time gets one from the client.
				record.timeUnixNano ||= 1n;
			}
			assertSame(BatchSchema, own, expected);
		});
	}

	for (const { name, producer_id, resource, builds, expected } of built) {
		test(`built: ${name}`, () => {
			const batcher = new Batcher(bytes(producer_id), wireResource(resource));
			builds.forEach(({ now_unix_nano, random, account, records }, index) => {
				const parts = [recordsOf(records), records.length, countsOf(account)];
				const batch = batcher.build(...parts, BigInt(now_unix_nano), bytes(random));
				assertSame(BatchSchema, anySdk(batchOf(batch)), wireBatch(expected[index]));
				assert.equal(hex(batch.batchId), expected[index].batch_id);
				assert.equal(batch.sequence, BigInt(index + 1));
				assert.equal(batch.recordCount, records.length);
			});
		});
	}

	// A batch of a vector, under its id there.
	function wholeOf(batch) {
		return { ...builtBatch(batch), batchId: bytes(batch.batch_id) };
	}

	function assertFollows(follower, expected) {
		assertSame(BatchSchema, anySdk(batchOf(follower)), wireBatch(expected));
		assert.equal(hex(follower.batchId), expected.batch_id);
		assert.equal(follower.recordCount, expected.records.length);
	}

	for (const { name, whole, halves: expected } of splits) {
		test(`split: ${name}`, () => {
			const parts = halves(wholeOf(whole), sha256);
			if (expected === null) {
				assert.equal(parts, undefined);
				return;
			}
			assertFollows(parts[0], expected[0]);
			assertFollows(parts[1], expected[1]);
		});
	}

	for (const { name, whole, positions, reason, repaired } of repairs) {
		test(`repaired: ${name}`, () => {
			const rest = without(wholeOf(whole), positions, reason, sha256);
			assertFollows(rest, repaired);
		});
	}
});

describe("responses", () => {
	const codes = {
		CANCELLED: Code.Canceled,
		UNKNOWN: Code.Unknown,
		INVALID_ARGUMENT: Code.InvalidArgument,
		DEADLINE_EXCEEDED: Code.DeadlineExceeded,
		NOT_FOUND: Code.NotFound,
		ALREADY_EXISTS: Code.AlreadyExists,
		PERMISSION_DENIED: Code.PermissionDenied,
		RESOURCE_EXHAUSTED: Code.ResourceExhausted,
		FAILED_PRECONDITION: Code.FailedPrecondition,
		ABORTED: Code.Aborted,
		OUT_OF_RANGE: Code.OutOfRange,
		UNIMPLEMENTED: Code.Unimplemented,
		INTERNAL: Code.Internal,
		UNAVAILABLE: Code.Unavailable,
		DATA_LOSS: Code.DataLoss,
		UNAUTHENTICATED: Code.Unauthenticated,
	};

	function refusalOf(answer) {
		return {
			code: codes[answer.code],
			isTransport: answer.is_transport ?? false,
			retryDelayMs: answer.retry_delay_ms,
			reason: answer.reason ?? "",
			badRecords: [],
			message: "",
		};
	}

	for (const { name, endpoints, batch, steps } of vectors("responses").cases) {
		test(name, () => {
			const pool = new EndpointPool(retryPolicyDefault, endpoints);
			const tickets = new Map();
			const shared = { internalFailures: 0 };
			for (const step of steps) {
				const now = step.at_ms;
				if (step.start !== undefined) {
					const { ticket } = pool.start(now);
					assert.ok(ticket, `${step.start} may start`);
					assert.equal(ticket.endpoint, step.endpoint ?? ticket.endpoint);
					tickets.set(step.start, ticket);
				} else if (step.refuse !== undefined) {
					const ticket = tickets.get(step.refuse);
					const history = batch === "one" ? shared : { internalFailures: 0 };
					const refusal = refusalOf(step.answer);
					const next = pool.refused(ticket, refusal, history, now, step.random);
					pool.finish(ticket);
					assert.equal(next.giveUp ?? next, step.next, JSON.stringify(step));
				} else if (step.succeed !== undefined) {
					pool.succeeded(tickets.get(step.succeed));
					pool.finish(tickets.get(step.succeed));
				} else if (step.abandon !== undefined) {
					pool.finish(tickets.get(step.abandon));
				} else {
					const { ticket, until } = pool.start(now);
					assert.equal(ticket, undefined, JSON.stringify(step));
					assert.equal(until === undefined ? null : until - now, step.wait_ms);
				}
			}
		});
	}
});

function factsOf(environment, files) {
	return {
		...nodePlatform,
		environment: (name) => environment[name],
		readFile(path) {
			if (!(path in files)) {
				throw new Error("there is no such file");
			}
			return files[path];
		},
		hostName: () => "h",
		processId: () => 17,
	};
}

describe("environment", () => {
	const optionNames = {
		queue_records: "queueRecords",
		batch_records: "batchRecords",
		batch_bytes: "batchBytes",
		in_flight: "inFlight",
		resource_detection: "resourceDetection",
	};
	const settings = {
		endpoint: ({ addresses }) => addresses,
		token: ({ token }) => token.read() ?? null,
		service: ({ resource }) => resource.service,
		host: ({ resource }) => resource.host,
		instance: ({ resource }) => resource.instance,
		environment: ({ resource }) => resource.environment,
		version: ({ resource }) => resource.version,
		region: ({ resource }) => resource.region,
		attributes: ({ resource }) =>
			Object.fromEntries(
				resource.attributes.map(({ key, value: { value } }) => [
					key,
					typeof value === "bigint" ? Number(value) : value,
				]),
			),
		queue_records: ({ queue }) => queue.recordsMax,
		queue_bytes: ({ queue }) => queue.bytesMax,
		batch_records: ({ batchRecords }) => batchRecords,
		batch_bytes: ({ batchBytes }) => batchBytes,
		batch_delay_ms: ({ batchDelayMs }) => batchDelayMs,
		drop_policy: ({ queue }) => queue.policy,
		in_flight: ({ inFlight }) => inFlight,
		memory_age_max_ms: ({ memoryAgeMaxMs }) => memoryAgeMaxMs,
		attempt_timeout_ms: ({ attemptTimeoutMs }) => attemptTimeoutMs,
		compression: ({ encoding }) => encoding,
		spool_directory: ({ spool }) => spool?.directory ?? null,
		sample_rates: ({ sampleRates }) =>
			Object.fromEntries([...sampleRates].map(([level, rate]) => [WireLevel[level], rate])),
		redact_keys: ({ redactKeys }) => redactKeys,
		is_disabled: ({ isDisabled }) => isDisabled,
	};

	function optionsOf(code, notices) {
		const named = Object.entries(code).map(([name, value]) => [optionNames[name] ?? name, value]);
		return { ...Object.fromEntries(named), onNotice: (text) => notices.push(text) };
	}

	for (const testCase of vectors("environment").cases) {
		const { name, code, environment, files = {}, expected, notices: expectedNotices } = testCase;
		test(name, () => {
			const notices = [];
			const resolve = () => resolveConfig(optionsOf(code, notices), factsOf(environment, files));
			if (testCase.fails !== undefined) {
				assert.throws(
					resolve,
					(error) => error instanceof ConfigError && error.setting === testCase.fails,
				);
				return;
			}
			const config = resolve();
			for (const [setting, value] of Object.entries(expected)) {
				const compressed = value === "compressed" ? nodePlatform.encoding : value;
				assert.deepEqual(settings[setting](config), compressed, setting);
			}
			assert.equal(notices.length, expectedNotices, notices.join("\n"));
		});
	}
});

describe("spool", () => {
	const spool = vectors("spool");
	const folderSalt = salt(spool.folder);

	test("the salt of a folder", () => assert.equal(folderSalt, spool.salt));

	test("frames", () => {
		for (const frame of spool.frames) {
			const batch = {
				createdUnixNano: BigInt(frame.created_unix_nano),
				sequence: BigInt(frame.sequence),
				recordCount: frame.record_count,
				batchId: bytes(frame.batch_id),
				producerId: bytes(frame.producer_id),
				request: bytes(frame.request),
			};
			assert.equal(hex(frameHead(folderSalt, batch)) + frame.request, frame.frame);
			const [found] = scan(folderSalt, bytes(frame.frame));
			const { request, ...facts } = found.batch;
			assert.deepEqual({ ...facts, request: Uint8Array.from(request) }, batch);
		}
	});

	for (const { name, data, found, damaged_runs } of spool.scans) {
		test(`scan: ${name}`, () => {
			const frames = [];
			const scanning = scan(folderSalt, bytes(data));
			let next = scanning.next();
			for (; !next.done; next = scanning.next()) {
				frames.push([next.value.offset, Number(next.value.batch.sequence)]);
			}
			assert.deepEqual(frames, found);
			assert.equal(next.value, damaged_runs);
		});
	}

	test("marks", () => {
		for (const { offset, mark } of spool.marks) {
			assert.equal(hex(encodeMark(folderSalt, BigInt(offset))), mark);
		}
	});

	for (const { name, data, offsets } of spool.mark_files) {
		test(`file of marks: ${name}`, () => {
			assert.deepEqual([...decodeMarks(folderSalt, bytes(data))].map(String), offsets);
		});
	}

	for (const { name, owner, age_s, namespace, processes, is_dead } of spool.owners) {
		test(`owner: ${name}`, () => {
			const startOf = (pid) => processes[pid];
			assert.equal(isDead(owner ?? undefined, age_s * 1_000, namespace, startOf), is_dead);
		});
	}
});

describe("trace", () => {
	const { parse, child, new: begun } = vectors("trace");

	test("headers", () => {
		for (const { header, trace_id, span_id, flags } of parse) {
			const expected =
				trace_id === null ? undefined : { traceId: trace_id, spanId: span_id, flags };
			assert.deepEqual(parseTraceparent(header), expected, JSON.stringify(header));
		}
	});

	test("calls within", () => {
		for (const { header, random, child: expected } of child) {
			const inner = childOf(parseTraceparent(header), bytes(random));
			assert.equal(formatTraceparent(inner), expected);
		}
	});

	test("traces begun here", () => {
		for (const { random, header } of begun) {
			assert.equal(formatTraceparent(newTrace(bytes(random))), header);
		}
	});
});
