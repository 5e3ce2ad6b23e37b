/**
 * Sending bytes that are encoded already through the gRPC library, which would encode a message: the
 * message is empty, and the batch a field that it does not know, which it writes as it is.
 */

import { create, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import type { Transport } from "@connectrpc/connect";
import {
	IngestRequestSchema,
	IngestResponseSchema,
	IngestService,
} from "../generated/logweir/v1/ingest_pb.js";

/** The tag of field 1, with a length, with which every encoded request begins. */
const tagBytes = 1;

/** Sends an encoded `IngestRequest`, and returns the response, encoded. Throws a `ConnectError`. */
export async function ingest(
	transport: Transport,
	request: Uint8Array,
	headers: { [name: string]: string },
	signal: AbortSignal,
): Promise<Uint8Array> {
	const message = create(IngestRequestSchema);
	// Without the tag, which the library writes itself.
	message.$unknown = [
		{ no: 1, wireType: WireType.LengthDelimited, data: request.subarray(tagBytes) },
	];
	const method = IngestService.method.ingest;
	const response = await transport.unary(method, signal, undefined, headers, message);
	return toBinary(IngestResponseSchema, response.message);
}
