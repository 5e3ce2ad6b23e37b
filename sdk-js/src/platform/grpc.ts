/**
 * One gRPC call over the HTTP/2 session that `@connectrpc/connect-node` keeps. The library's own call
 * costs three times as much for a batch, which would be half of what a log costs in all: it is made for
 * streams of messages, and this is one message of bytes that are there already.
 */

import {
	type ClientHttp2Stream,
	constants,
	type IncomingHttpHeaders,
	type IncomingHttpStatusHeader,
	type OutgoingHttpHeaders,
} from "node:http2";
import { findTrailerError, validateResponse } from "@connectrpc/connect/protocol-grpc";
import type { Http2SessionManager } from "@connectrpc/connect-node";

/** A flag, whether the message is compressed, and its length in 4 bytes. */
const prefixBytes = 5;
const ok = "0";

/** How messages are compressed. */
export interface Compressor {
	name: string;
	compress(bytes: Uint8Array): Promise<Uint8Array>;
	/** Messages below this are sent as they are, bytes. */
	fromBytes: number;
}

/** Sends a message and returns the response's message. Throws a `ConnectError` with headers if a server responded. */
export async function unaryCall(
	session: Http2SessionManager,
	path: string,
	message: Uint8Array,
	headers: OutgoingHttpHeaders,
	signal: AbortSignal,
	compressor: Compressor | undefined,
): Promise<Uint8Array> {
	const isCompressed = compressor !== undefined && message.length >= compressor.fromBytes;
	const sent = isCompressed ? await compressor.compress(message) : message;
	const stream = await session.request(
		"POST",
		path,
		{
			...headers,
			"content-type": "application/grpc+proto",
			te: "trailers",
			...(isCompressed ? { "grpc-encoding": compressor.name } : {}),
		},
		{},
	);
	const cancel = () => stream.close(constants.NGHTTP2_CANCEL);
	signal.addEventListener("abort", cancel);
	try {
		// The session may have taken its time.
		if (signal.aborted) {
			cancel();
		} else {
			// Both parts go out together.
			stream.cork();
			stream.write(prefixOf(isCompressed, sent.length));
			stream.end(sent);
		}
		return messageOf(await responseOf(session, stream));
	} finally {
		signal.removeEventListener("abort", cancel);
	}
}

function prefixOf(isCompressed: boolean, length: number): Buffer {
	const prefix = Buffer.allocUnsafe(prefixBytes);
	prefix[0] = isCompressed ? 1 : 0;
	prefix.writeUInt32BE(length, 1);
	return prefix;
}

interface HttpResponse {
	headers: (IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined;
	trailers: IncomingHttpHeaders | undefined;
	body: Buffer[];
}

/** Everything that comes back, once the stream is closed. */
function responseOf(
	session: Http2SessionManager,
	stream: ClientHttp2Stream,
): Promise<HttpResponse> {
	return new Promise((resolve, reject) => {
		const response: HttpResponse = { headers: undefined, trailers: undefined, body: [] };
		stream.on("response", (headers) => {
			response.headers = headers;
		});
		stream.on("trailers", (trailers) => {
			response.trailers = trailers;
		});
		stream.on("data", (part: Buffer) => {
			// The manager takes any byte for a sign of life, and puts its next ping off.
			session.notifyResponseByteRead(stream);
			response.body.push(part);
		});
		stream.on("error", reject);
		stream.on("close", () => resolve(response));
	});
}

function messageOf({ headers, trailers, body }: HttpResponse): Uint8Array {
	const status = trailers?.["grpc-status"] ?? headers?.["grpc-status"];
	// A status without a message would be taken for an empty response.
	const isWhole = headers?.[":status"] === 200 && status === ok && body.length > 0;
	if (isWhole) {
		return Buffer.concat(body).subarray(prefixBytes);
	}
	if (headers === undefined) {
		throw new Error("the connection broke off");
	}
	const sentHeaders = toHeaders(headers);
	const { headerError } = validateResponse(headers[":status"] ?? 0, sentHeaders);
	throw (
		headerError ??
		findTrailerError(toHeaders({ ...headers, ...trailers })) ??
		new Error("the answer broke off")
	);
}

function toHeaders(headers: IncomingHttpHeaders): Headers {
	const all = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		if (!name.startsWith(":")) {
			all.set(name, String(value));
		}
	}
	return all;
}
