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
export interface Packer {
	name: string;
	pack(bytes: Uint8Array): Promise<Uint8Array>;
	/** Messages below this are sent as they are, bytes. */
	fromBytes: number;
}

/** Sends a message and returns the answer. Throws a `ConnectError` with headers if a server answered. */
export async function unaryCall(
	session: Http2SessionManager,
	path: string,
	message: Uint8Array,
	headers: OutgoingHttpHeaders,
	signal: AbortSignal,
	packer: Packer | undefined,
): Promise<Uint8Array> {
	const packs = packer !== undefined && message.length >= packer.fromBytes;
	const sent = packs ? await packer.pack(message) : message;
	const stream = await session.request(
		"POST",
		path,
		{
			...headers,
			"content-type": "application/grpc+proto",
			te: "trailers",
			...(packs ? { "grpc-encoding": packer.name } : {}),
		},
		{},
	);
	const cancel = () => stream.close(constants.NGHTTP2_CANCEL);
	signal.addEventListener("abort", cancel);
	try {
		if (signal.aborted) {
			cancel();
		} else {
			// Both parts go out together.
			stream.cork();
			stream.write(prefixOf(packs, sent.length));
			stream.end(sent);
		}
		return readAnswer(await answerOf(session, stream));
	} finally {
		signal.removeEventListener("abort", cancel);
	}
}

function prefixOf(isPacked: boolean, length: number): Buffer {
	const prefix = Buffer.allocUnsafe(prefixBytes);
	prefix[0] = isPacked ? 1 : 0;
	prefix.writeUInt32BE(length, 1);
	return prefix;
}

interface Answer {
	headers: (IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined;
	trailers: IncomingHttpHeaders | undefined;
	body: Buffer[];
}

/** Everything that comes back, once the stream is closed. */
function answerOf(session: Http2SessionManager, stream: ClientHttp2Stream): Promise<Answer> {
	return new Promise((resolve, reject) => {
		const answer: Answer = { headers: undefined, trailers: undefined, body: [] };
		stream.on("response", (headers) => {
			answer.headers = headers;
		});
		stream.on("trailers", (trailers) => {
			answer.trailers = trailers;
		});
		stream.on("data", (part: Buffer) => {
			session.notifyResponseByteRead(stream);
			answer.body.push(part);
		});
		stream.on("error", reject);
		stream.on("close", () => resolve(answer));
	});
}

function readAnswer({ headers, trailers, body }: Answer): Uint8Array {
	const status = trailers?.["grpc-status"] ?? headers?.["grpc-status"];
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
