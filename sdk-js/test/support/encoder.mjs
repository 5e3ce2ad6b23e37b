// Encodes logs as a client does, and decodes them by the generated code.
import { fromBinary } from "@bufbuild/protobuf";
import { Encoder } from "../../dist/esm/encode.js";
import { LogRecordSchema } from "../../dist/esm/generated/logweir/v1/log_pb.js";
import { browserPlatform } from "../../dist/esm/platform/browser.js";
import { nodePlatform } from "../../dist/esm/platform/node.js";
import { Redaction } from "../../dist/esm/redaction.js";

export const platforms = { node: nodePlatform, browser: browserPlatform };

export function encoderOf(platform, redactKeys = []) {
	return new Encoder(platform.allocate, platform.writeText, new Redaction(redactKeys));
}

export function encodedBytes(encoder, record) {
	const length = encoder.encode(record, 0);
	return encoder.buffer.slice(0, length);
}

export function decoded(encoder, record) {
	return fromBinary(LogRecordSchema, encodedBytes(encoder, record));
}

export function decodedPlain(encoder, level, message, attributes, trace) {
	const length = encoder.encodePlain(level, message, attributes, trace, 0);
	return fromBinary(LogRecordSchema, encoder.buffer.slice(0, length));
}
