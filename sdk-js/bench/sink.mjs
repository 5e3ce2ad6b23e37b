// A sink that answers OK to whatever is sent: gRPC of both kinds, and OTLP over HTTP. Prints its ports.
import http from "node:http";
import http2 from "node:http2";

// An empty message, which both libraries read as all accepted.
const emptyMessage = Buffer.alloc(5);

// A window that holds whole batches, so that the sink is not what holds anybody up.
const windowBytes = 8 << 20;

const grpc = http2.createServer({ settings: { initialWindowSize: windowBytes } });
grpc.on("session", (session) => {
	session.setLocalWindowSize(windowBytes);
	session.on("error", () => {});
});
grpc.on("stream", (stream) => {
	stream.on("error", () => {});
	stream.on("data", () => {});
	stream.on("end", () => {
		stream.respond(
			{ ":status": 200, "content-type": "application/grpc+proto" },
			{ waitForTrailers: true },
		);
		stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
		stream.end(emptyMessage);
	});
});

const otlp = http.createServer((request, response) => {
	request.on("data", () => {});
	request.on("end", () => {
		response.writeHead(200, { "content-type": "application/x-protobuf" });
		response.end();
	});
});

grpc.listen(0, "127.0.0.1", () => {
	otlp.listen(0, "127.0.0.1", () => {
		console.log(JSON.stringify({ grpc: grpc.address().port, otlp: otlp.address().port }));
	});
});
