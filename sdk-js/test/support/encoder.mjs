// Encodes logs as a client does, and decodes them by the generated code.
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { BatchSchema } from "../../dist/esm/generated/logweir/v1/ingest_pb.js";
import { browserPlatform } from "../../dist/esm/platform/browser.js";
import { nodePlatform } from "../../dist/esm/platform/node.js";
import { Encoder } from "../../dist/esm/record/encode.js";
import { Redaction } from "../../dist/esm/record/redaction.js";

export const platforms = { node: nodePlatform, browser: browserPlatform };

export function encoderOf(platform, redactKeys = []) {
	return new Encoder(platform.allocate, platform.writeText, new Redaction(redactKeys));
}

// Encoded, a log is a field of a batch.
export function recordIn(encoder, end) {
	const { records } = fromBinary(BatchSchema, encoder.buffer.subarray(encoder.start, end));
	assert.equal(records.length, 1);
	return records[0];
}

// `nowUnixMs`: the time of the call.
export function decoded(encoder, record, nowUnixMs = 0) {
	return recordIn(encoder, encoder.encode(record, false, undefined, nowUnixMs));
}

export function decodedPlain(encoder, level, message, attributes, trace) {
	return recordIn(encoder, encoder.encodePlain(level, message, attributes, trace, undefined, 0));
}
