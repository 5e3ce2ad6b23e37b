// Reads the vectors of the contract, and what they say in their own short form.
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import {
	AccountSchema,
	BatchSchema,
	DropCountSchema,
	ProducerSchema,
} from "../../dist/esm/generated/logweir/v1/ingest_pb.js";
import {
	AttributeSchema,
	LogRecordSchema,
	ResourceSchema,
	Level as WireLevel,
} from "../../dist/esm/generated/logweir/v1/log_pb.js";
import { double, json } from "../../dist/esm/index.js";

export function vectors(name) {
	const file = new URL(`../../../proto/vectors/${name}.json`, import.meta.url);
	return JSON.parse(readFileSync(file, "utf8"));
}

export function bytes(hex) {
	return Uint8Array.from(Buffer.from(hex ?? "", "hex"));
}

export function hex(data) {
	return Buffer.from(data).toString("hex");
}

function text(value) {
	return typeof value === "object" ? value.repeat.repeat(value.times) : value;
}

function levelNumber(level) {
	return typeof level === "number" ? level : WireLevel[level ?? "UNSPECIFIED"];
}

// The attributes of a vector, each as [name, kind, value].
function attributes(list = []) {
	return list.flatMap((attribute) => {
		if (attribute.numbered !== undefined) {
			return Array.from({ length: attribute.numbered }, (_, n) => [`k${n}`, "int", n]);
		}
		const kind = ["string", "int", "double", "bool", "json"].find((kind) => kind in attribute);
		return [[text(attribute.key), kind, text(attribute[kind])]];
	});
}

const programValues = {
	string: (value) => value,
	int: (value) => (typeof value === "string" ? BigInt(value) : value),
	double: (value) => double(Number(value)),
	bool: (value) => value,
	json: (value) => json(value),
};

export function programAttributes(list) {
	return attributes(list).map(([name, kind, value]) => [name, programValues[kind](value)]);
}

// A record as a program hands it over.
export function programRecord(record) {
	return {
		timeUnixNano: record.time_unix_nano === undefined ? undefined : BigInt(record.time_unix_nano),
		level: levelNumber(record.level),
		severityNumber: record.severity_number,
		message: text(record.message ?? ""),
		latencyMs: record.latency_ms === undefined ? undefined : Number(record.latency_ms),
		traceId: bytes(record.trace_id),
		spanId: bytes(record.span_id),
		logger: text(record.logger ?? ""),
		attributes: programAttributes(record.attributes),
	};
}

const wireValues = {
	string: (value) => ({ case: "stringValue", value }),
	int: (value) => ({ case: "intValue", value: BigInt(value) }),
	double: (value) => ({ case: "doubleValue", value: Number(value) }),
	bool: (value) => ({ case: "boolValue", value }),
	json: (value) => ({ case: "jsonValue", value }),
};

export function wireAttributes(list) {
	return attributes(list).map(([key, kind, value]) =>
		create(AttributeSchema, { key, value: wireValues[kind](value) }),
	);
}

// A record as it is on the wire.
export function wireRecord(record) {
	const message = create(LogRecordSchema, {
		timeUnixNano: BigInt(record.time_unix_nano ?? 0),
		level: levelNumber(record.level),
		severityNumber: record.severity_number ?? 0,
		message: text(record.message ?? ""),
		traceId: bytes(record.trace_id),
		spanId: bytes(record.span_id),
		logger: text(record.logger ?? ""),
		attributes: wireAttributes(record.attributes),
	});
	if (record.latency_ms !== undefined) {
		message.latencyMs = Number(record.latency_ms);
	}
	return message;
}

export function wireResource(resource) {
	return create(ResourceSchema, { ...resource, attributes: wireAttributes(resource.attributes) });
}

export function wireBatch(batch) {
	const { producer } = batch;
	const { account } = producer;
	return create(BatchSchema, {
		batchId: bytes(batch.batch_id),
		producer: create(ProducerSchema, {
			producerId: bytes(producer.producer_id),
			sequence: BigInt(producer.sequence),
			account: create(AccountSchema, {
				emitted: BigInt(account.emitted),
				dropped: Object.entries(account.dropped).map(([reason, count]) =>
					create(DropCountSchema, { reason, count: BigInt(count) }),
				),
				rejected: BigInt(account.rejected),
				queued: BigInt(account.queued),
				spooled: BigInt(account.spooled),
			}),
			sdkName: producer.sdk_name,
			sdkVersion: producer.sdk_version,
		}),
		resource: wireResource(batch.resource),
		records: batch.records.map(wireRecord),
	});
}
