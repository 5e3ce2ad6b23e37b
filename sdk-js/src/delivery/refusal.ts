/** A response other than OK, read from what the gRPC library throws. */

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { errorText } from "../errors.js";
import type { Refusal } from "./retry.js";

const retryInfo = "google.rpc.RetryInfo";
const errorInfo = "google.rpc.ErrorInfo";
const badRequest = "google.rpc.BadRequest";
/** The first field of each of these messages, and of the messages inside them, is the one that counts. */
const firstField = 1;
const nanosField = 2;
const nanosecondsPerMillisecond = 1_000_000;

/** What was thrown, as a refusal. Details that cannot be read count as absent. */
export function toRefusal(thrown: unknown): Refusal {
	const error = ConnectError.from(thrown, Code.Unavailable);
	const details = new Map<string, Uint8Array[]>();
	for (const detail of error.details) {
		if ("type" in detail) {
			details.set(detail.type, fieldsOf(detail.value));
		}
	}
	const delay = details.get(retryInfo);
	return {
		code: error.code,
		isTransport: !isAnswer(error),
		isForeign: isForeign(error),
		retryDelayMs: delay === undefined ? undefined : durationMs(delay[0] ?? new Uint8Array()),
		reason: textOf(details.get(errorInfo)?.[0]),
		badRecords: badRecords(details.get(badRequest) ?? []),
		message: error.rawMessage,
	};
}

/** Whether a server responded: only then there are headers. */
function isAnswer(error: ConnectError): boolean {
	let hasHeaders = false;
	error.metadata.forEach(() => {
		hasHeaders = true;
	});
	return hasHeaders;
}

/** The cause beneath an error, in words for a person. */
export function causeText(thrown: unknown): string {
	let cause = thrown;
	for (;;) {
		// Node tries several addresses and keeps the causes in a list.
		const several = (cause as { errors?: unknown[] } | undefined)?.errors;
		const inner = several?.[0] ?? (cause as { cause?: unknown } | undefined)?.cause;
		if (inner === undefined || inner === null) {
			return plainCause(cause);
		}
		cause = inner;
	}
}

const unknownCaAdvice = "give the file of its CA, in tls.caFile or LOGWEIR_TLS_CA";
/** What to do when Node does not trust a server's certificate, by the codes of its errors. */
const certificateAdvice = new Map([
	["UNABLE_TO_VERIFY_LEAF_SIGNATURE", unknownCaAdvice],
	["UNABLE_TO_GET_ISSUER_CERT", unknownCaAdvice],
	["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", unknownCaAdvice],
	["SELF_SIGNED_CERT_IN_CHAIN", unknownCaAdvice],
	["DEPTH_ZERO_SELF_SIGNED_CERT", unknownCaAdvice],
	["CERT_HAS_EXPIRED", "renew the server's certificate"],
	["ERR_TLS_CERT_ALTNAME_INVALID", "use a name that is in the server's certificate"],
]);

/** One line. What OpenSSL and the HTTP/2 library say of themselves is for their own developers. */
function plainCause(cause: unknown): string {
	const { code, reason } = (cause ?? {}) as { code?: unknown; reason?: unknown };
	if (code === "ERR_HTTP2_ERROR") {
		return "it does not speak HTTP/2; is this the port for gRPC?";
	}
	const line = errorText(cause).split(/[\r\n]/, 1)[0] ?? "";
	const advice = certificateAdvice.get(String(code));
	if (advice !== undefined) {
		return `TLS: ${line}; ${advice}`;
	}
	return typeof reason === "string" ? `TLS: ${reason}` : line;
}

/** Whether the response is one that no Logweir server gives. */
function isForeign(error: ConnectError): boolean {
	const contentType = error.metadata.get("content-type");
	const isGrpc = contentType === null || contentType.startsWith("application/grpc");
	return error.code === Code.Unimplemented || !isGrpc;
}

/** The values of the first field of a message, each as bytes; none if it is damaged. */
function fieldsOf(message: Uint8Array): Uint8Array[] {
	const values: Uint8Array[] = [];
	try {
		const reader = new BinaryReader(message);
		while (reader.pos < reader.len) {
			const [field, type] = reader.tag();
			if (field === firstField && type === WireType.LengthDelimited) {
				values.push(reader.bytes());
			} else {
				reader.skip(type, field);
			}
		}
	} catch {
		return [];
	}
	return values;
}

/** A `google.protobuf.Duration`. */
function durationMs(message: Uint8Array): number {
	let milliseconds = 0;
	const reader = new BinaryReader(message);
	while (reader.pos < reader.len) {
		const [field, type] = reader.tag();
		if (field === firstField && type === WireType.Varint) {
			milliseconds += Number(reader.int64()) * 1_000;
		} else if (field === nanosField && type === WireType.Varint) {
			milliseconds += reader.int32() / nanosecondsPerMillisecond;
		} else {
			reader.skip(type, field);
		}
	}
	return Math.max(0, milliseconds);
}

/** The positions in field violations such as `batch.records[17].message`, in order. */
function badRecords(violations: Uint8Array[]): number[] {
	const positions = new Set<number>();
	for (const violation of violations) {
		const found = /records\[(\d+)\]/.exec(textOf(fieldsOf(violation)[0]));
		if (found !== null) {
			positions.add(Number(found[1]));
		}
	}
	return [...positions].sort((one, other) => one - other);
}

function textOf(bytes: Uint8Array | undefined): string {
	return bytes === undefined ? "" : new TextDecoder().decode(bytes);
}
