// A gRPC server on bare node:http2 that answers by a script and keeps what it was sent, so that the
// client is not tested against its own library.
import http2 from "node:http2";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
	IngestRequestSchema,
	IngestResponseSchema,
} from "../../dist/esm/generated/logweir/v1/ingest_pb.js";

export const codes = {
	CANCELLED: 1,
	UNKNOWN: 2,
	INVALID_ARGUMENT: 3,
	DEADLINE_EXCEEDED: 4,
	NOT_FOUND: 5,
	ALREADY_EXISTS: 6,
	PERMISSION_DENIED: 7,
	RESOURCE_EXHAUSTED: 8,
	FAILED_PRECONDITION: 9,
	ABORTED: 10,
	OUT_OF_RANGE: 11,
	UNIMPLEMENTED: 12,
	INTERNAL: 13,
	UNAVAILABLE: 14,
	DATA_LOSS: 15,
	UNAUTHENTICATED: 16,
};

const unpack = {
	gzip: promisify(zlib.gunzip),
	zstd: zlib.zstdDecompress === undefined ? undefined : promisify(zlib.zstdDecompress),
};

function any(type, value) {
	const writer = new BinaryWriter();
	writer.tag(1, WireType.LengthDelimited).string(`type.googleapis.com/google.rpc.${type}`);
	writer.tag(2, WireType.LengthDelimited).bytes(value);
	return writer.finish();
}

function field(number, value) {
	const writer = new BinaryWriter().tag(number, WireType.LengthDelimited);
	return (typeof value === "string" ? writer.string(value) : writer.bytes(value)).finish();
}

// google.rpc.Status with the details of a refusal.
function statusDetails({ code, retry_delay_ms, reason, bad_records }, message) {
	const details = [];
	if (retry_delay_ms !== undefined) {
		const duration = new BinaryWriter();
		duration.tag(1, WireType.Varint).int64(Math.floor(retry_delay_ms / 1_000));
		duration.tag(2, WireType.Varint).int32((retry_delay_ms % 1_000) * 1_000_000);
		details.push(any("RetryInfo", field(1, duration.finish())));
	}
	if (reason !== undefined) {
		details.push(any("ErrorInfo", field(1, reason)));
	}
	if (bad_records !== undefined) {
		const violations = bad_records.map((at) => field(1, field(1, `batch.records[${at}].message`)));
		details.push(any("BadRequest", Buffer.concat(violations)));
	}
	const status = new BinaryWriter().tag(1, WireType.Varint).int32(codes[code]);
	status.tag(2, WireType.LengthDelimited).string(message);
	for (const detail of details) {
		status.tag(3, WireType.LengthDelimited).bytes(detail);
	}
	return Buffer.from(status.finish()).toString("base64").replace(/=+$/, "");
}

async function body(stream, encoding) {
	const parts = [];
	for await (const part of stream) {
		parts.push(part);
	}
	const envelope = Buffer.concat(parts);
	const message = envelope.subarray(5, 5 + envelope.readUInt32BE(1));
	return envelope[0] === 1 ? unpack[encoding](message) : message;
}

function sendTrailers(stream, trailers) {
	stream.respond(
		{ ":status": 200, "content-type": "application/grpc+proto" },
		{ waitForTrailers: true },
	);
	stream.on("wantTrailers", () => stream.sendTrailers(trailers));
}

function accept(stream, response) {
	const message = toBinary(IngestResponseSchema, response);
	const head = Buffer.alloc(5);
	head.writeUInt32BE(message.length, 1);
	sendTrailers(stream, { "grpc-status": "0" });
	stream.end(Buffer.concat([head, message]));
}

function refuse(stream, refusal) {
	const message = refusal.message ?? "as the test says";
	sendTrailers(stream, {
		"grpc-status": String(codes[refusal.code]),
		"grpc-message": encodeURIComponent(message),
		"grpc-status-details-bin": statusDetails(refusal, message),
	});
	stream.end();
}

// Keeps a batch, unless it is a repeat of one that is kept.
function store({ stored }, batch, rejected = []) {
	const id = Buffer.from(batch.batchId).toString("hex");
	if (!stored.has(id)) {
		const records = batch.records.filter((_, index) => !rejected.includes(index));
		stored.set(id, { batch, records, rejected });
	}
}

// The next answer of the script. `too_large_over` stays: it is a limit, and not one answer.
function nextAnswer({ script }, batch) {
	const [next] = script;
	if (next?.too_large_over !== undefined) {
		return batch.records.length > next.too_large_over
			? { refuse: { code: "RESOURCE_EXHAUSTED", reason: "BATCH_TOO_LARGE" } }
			: {};
	}
	return script.shift() ?? {};
}

async function handle(state, stream, headers) {
	const request = await body(stream, headers["grpc-encoding"]);
	state.attempts.push(Buffer.from(request));
	state.headers.push(headers);
	state.onAttempt?.();
	if (state.token !== undefined && headers.authorization !== `Bearer ${state.token}`) {
		refuse(stream, { code: "UNAUTHENTICATED", message: "this token is not known" });
		return;
	}
	const { batch } = fromBinary(IngestRequestSchema, request);
	respond(state, stream, batch, nextAnswer(state, batch));
}

function respond(state, stream, batch, answer) {
	if (answer.stall) {
		return;
	}
	if (answer.reset) {
		stream.close(answer.reset);
	} else if (answer.store_then_refuse !== undefined) {
		store(state, batch);
		refuse(stream, answer.store_then_refuse);
	} else if (answer.refuse !== undefined) {
		refuse(stream, answer.refuse);
	} else {
		const rejected = answer.reject ?? [];
		store(state, batch, rejected);
		accept(stream, responseOf(batch, rejected));
	}
}

function responseOf(batch, rejected) {
	return create(IngestResponseSchema, {
		accepted: batch.records.length - rejected.length,
		rejected: rejected.map((index) => ({
			index,
			reason: "test_rule",
			message: "as the test says",
		})),
	});
}

// The connections that are open.
function sessionsOf(server) {
	const sessions = new Set();
	server.on("session", (session) => {
		sessions.add(session);
		session.on("close", () => sessions.delete(session));
		session.on("error", () => {});
	});
	return sessions;
}

function listening(server, port) {
	return new Promise((resolve, reject) => {
		server.on("error", reject);
		server.listen(port, "127.0.0.1", resolve);
	});
}

// Starts a server that gives the answers of accounts.json in turn, then accepts. Further answers:
// `reset` breaks the stream off, `stall` never answers. `tls`: options of a secure server.
export async function startServer({ answers = [], port = 0, token, tls } = {}) {
	const server = tls === undefined ? http2.createServer() : http2.createSecureServer(tls);
	const script = [...answers];
	const attempts = [];
	const stored = new Map();
	const state = { attempts, stored, headers: [], script, token, onAttempt: undefined };
	const sessions = sessionsOf(server);
	server.on("stream", (stream, headers) => {
		stream.on("error", () => {});
		handle(state, stream, headers).catch(() => stream.close());
	});
	await listening(server, port);
	return {
		...state,
		state,
		endpoint: `${tls === undefined ? "http" : "https"}://127.0.0.1:${server.address().port}`,
		port: server.address().port,
		get records() {
			return [...stored.values()].flatMap(({ records }) => records);
		},
		get sessionCount() {
			return sessions.size;
		},
		close() {
			for (const session of sessions) {
				session.destroy();
			}
			return new Promise((resolve) => server.close(resolve));
		},
	};
}
