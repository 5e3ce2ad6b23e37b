// pino, winston, the console and the context of a request.
import assert from "node:assert/strict";
import http from "node:http";
import { describe, test } from "node:test";
import pino from "pino";
import winston from "winston";
import { Level } from "../dist/esm/index.js";
import { wrapConsole } from "../dist/esm/integrations/console.js";
import {
	koaTraceMiddleware,
	parseTraceparent,
	traceMiddleware,
	traceparent,
	withTrace,
} from "../dist/esm/integrations/context.js";
import { pinoStream } from "../dist/esm/integrations/pino.js";
import { winstonTransport } from "../dist/esm/integrations/winston.js";
import { testClient } from "./support/client.mjs";
import { run } from "./support/program.mjs";
import { startServer } from "./support/server.mjs";
import { patienceMs } from "./support/wait.mjs";

function values(record) {
	return Object.fromEntries(record.attributes.map(({ key, value }) => [key, value.value]));
}

// What arrives of a program's logs.
async function arrived(emit) {
	const server = await startServer();
	const client = testClient({ endpoint: server.endpoint });
	await emit(client);
	await client.shutdown(patienceMs);
	await server.close();
	return server.records;
}

// Logs of pino by its transport, which the options are given to, in a program of its own.
function runTransport(options, use, endpoint) {
	return run(
		`import pino from "pino";
		const target = "@logweir/sdk/pino";
		const transport = pino.transport({ target, options: ${JSON.stringify(options)} });
		(${use.toString()})(pino({ name: "shop.cards" }, transport));`,
		{ LOGWEIR_ENDPOINT: endpoint },
	);
}

describe("pino", () => {
	function use(logger) {
		logger.child({ request: 7 }).warn({ user_id: 42, cart: { items: [1] } }, "card %s", "declined");
		logger.error(new TypeError("boom"));
	}

	function check([declined, boom]) {
		assert.deepEqual([declined.level, declined.message], [Level.WARN, "card declined"]);
		assert.equal(declined.logger, "shop.cards");
		assert.deepEqual(values(declined), { request: 7n, user_id: 42n, cart: '{"items":[1]}' });
		assert.deepEqual([boom.level, boom.message], [Level.ERROR, "boom"]);
		assert.equal(values(boom)["exception.type"], "TypeError");
		assert.match(values(boom)["exception.stacktrace"], /^TypeError: boom\n/);
	}

	test("as a stream", async () => {
		check(await arrived((client) => use(pino({ name: "shop.cards" }, pinoStream(client)))));
	});

	test("a log has pino's time, and a line that is not pino's is a message", async () => {
		const [log, line] = await arrived((client) => {
			const stream = pinoStream(client);
			pino({ timestamp: () => ',"time":"2023-11-14T22:13:20.001Z"' }, stream).info("then");
			stream.write("no JSON\n");
		});
		assert.equal(log.timeUnixNano, 1_700_000_000_001_000_000n);
		assert.equal(line.message, "no JSON");
	});

	test("as a transport in a worker, which sends all before the program ends", async () => {
		const server = await startServer();
		const { code, stderr } = await runTransport({ service: "shop" }, use, server.endpoint);
		assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
		check(server.records);
		const [{ batch }] = server.stored.values();
		assert.equal(batch.resource.service, "shop");
		await server.close();
	});

	test("a setting of the transport that there is not is told, and the logs are sent", async () => {
		const server = await startServer();
		const { code, stderr } = await runTransport({ servise: "shop" }, use, server.endpoint);
		const told = "logweir: there is no setting servise; did you mean service? It is left out\n";
		assert.deepEqual({ code, stderr }, { code: 0, stderr: told });
		check(server.records);
		await server.close();
	});
});

test("winston", async () => {
	const [declined, boom, odd] = await arrived((client) => {
		const logger = winston.createLogger({
			level: "silly",
			levels: { ...winston.config.npm.levels, odd: 1 },
			format: winston.format.combine(
				winston.format.errors({ stack: true }),
				winston.format.splat(),
				winston.format.colorize({ colors: { odd: "blue" } }),
			),
			transports: [winstonTransport(client)],
		});
		logger.warn("card %s", "declined", { user_id: 42 });
		logger.error(new TypeError("boom"));
		logger.log("odd", "odd");
	});
	assert.deepEqual([declined.level, declined.message], [Level.WARN, "card declined"]);
	assert.deepEqual(values(declined), { user_id: 42n });
	assert.deepEqual([boom.level, boom.message], [Level.ERROR, "boom"]);
	assert.match(values(boom)["exception.stacktrace"], /^TypeError: boom\n/);
	assert.equal(odd.level, Level.INFO);
});

test("the console: levels, places, attributes and errors; it goes on as before", async () => {
	const written = [];
	const target = Object.fromEntries(
		["trace", "debug", "log", "info", "warn", "error"].map((method) => [
			method,
			(...parts) => written.push([method, ...parts]),
		]),
	);
	const error = new TypeError("boom");
	const records = await arrived((client) => {
		const undo = wrapConsole(client, target);
		target.log("hello %s, %d%%", "you", 5, [1]);
		target.warn("card declined", { user_id: 42 });
		target.error("failed:", error);
		target.debug(error);
		undo();
		target.info("not a log any more");
	});
	assert.equal(written.length, 5);
	assert.deepEqual(
		records.map(({ level, message }) => [level, message]),
		[
			[Level.INFO, "hello you, 5% [1]"],
			[Level.WARN, "card declined"],
			[Level.ERROR, "failed: boom"],
			[Level.DEBUG, "boom"],
		],
	);
	assert.deepEqual(values(records[1]), { user_id: 42n });
	assert.equal(values(records[2])["exception.type"], "TypeError");
	assert.equal(values(records[3])["exception.type"], "TypeError");
});

test("the console: a trace is one log, though Node writes it by another method", async () => {
	const { Console } = await import("node:console");
	const { PassThrough } = await import("node:stream");
	const target = new Console(new PassThrough(), new PassThrough());
	const records = await arrived((client) => {
		wrapConsole(client, target);
		target.trace("here");
		target.error("next");
	});
	assert.deepEqual(
		records.map(({ level, message }) => [level, message]),
		[
			[Level.TRACE, "here"],
			[Level.ERROR, "next"],
		],
	);
});

test("the console: what cannot be looked at is a log all the same", async () => {
	const { proxy, revoke } = Proxy.revocable({}, {});
	revoke();
	const target = { trace() {}, debug() {}, log() {}, info() {}, warn() {}, error() {} };
	const records = await arrived((client) => {
		wrapConsole(client, target);
		target.log("text", proxy);
		target.log(proxy, 1);
	});
	assert.deepEqual(
		records.map(({ message }) => message),
		["[unreadable]", "[unreadable]"],
	);
});

test("the console: what beforeSend writes is taken, however the log came", async () => {
	const target = { trace() {}, debug() {}, log() {}, info() {}, warn() {}, error() {} };
	const server = await startServer();
	const client = testClient({
		endpoint: server.endpoint,
		beforeSend: ({ message }) => target.log(`inner of ${message}`),
	});
	wrapConsole(client, target);
	target.log("console");
	client.info("client");
	await client.shutdown(patienceMs);
	await server.close();
	assert.deepEqual(
		server.records.map(({ message }) => message),
		["inner of console", "console", "inner of client", "client"],
	);
});

describe("context", () => {
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	const { traceId } = parseTraceparent(header);
	const hex = (bytes) => Buffer.from(bytes).toString("hex");

	test("logs of a request belong to its trace, also later ones", async () => {
		const [inside, later, outside] = await arrived(async (client) => {
			await withTrace(header, async () => {
				client.info("inside");
				await new Promise((resolve) => setTimeout(resolve));
				client.emitRecord({ level: Level.INFO, message: "later", traceId: null });
			});
			client.info("outside");
		});
		assert.equal(hex(inside.traceId), traceId);
		assert.equal(hex(later.traceId), traceId);
		assert.deepEqual(later.spanId, inside.spanId);
		assert.equal(outside.traceId.length, 0);
	});

	test("a header that is not valid begins a new trace", () => {
		for (const given of [undefined, "no header"]) {
			const inner = withTrace(given, traceparent);
			assert.notEqual(parseTraceparent(inner), undefined);
		}
		assert.equal(traceparent(), undefined);
	});

	test("middleware of Express and Fastify, over a real request", async () => {
		const server = http.createServer((request, response) => {
			traceMiddleware(request, response, () => response.end(traceparent()));
		});
		await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
		const url = `http://127.0.0.1:${server.address().port}`;
		const answers = await Promise.all([
			fetch(url, { headers: { traceparent: header } }).then((answer) => answer.text()),
			fetch(url).then((answer) => answer.text()),
		]);
		assert.equal(parseTraceparent(answers[0]).traceId, traceId);
		assert.notEqual(parseTraceparent(answers[1]).traceId, traceId);
		server.close();
		server.closeAllConnections();
	});

	test("middleware of Koa", async () => {
		const request = { headers: { traceparent: header } };
		const inner = await koaTraceMiddleware({ request }, async () => traceparent());
		assert.equal(parseTraceparent(inner).traceId, traceId);
	});

	test("OpenTelemetry's current span comes first", async () => {
		const key = Symbol.for("opentelemetry.js.api.1");
		const spanContext = { traceId: "ab".repeat(16), spanId: "cd".repeat(8), traceFlags: 1 };
		const span = { spanContext: () => spanContext };
		globalThis[key] = { context: { active: () => ({ getValue: () => span }) } };
		try {
			const [record] = await arrived((client) => withTrace(header, () => client.info("spanned")));
			assert.equal(hex(record.traceId), spanContext.traceId);
			assert.equal(hex(record.spanId), spanContext.spanId);
		} finally {
			delete globalThis[key];
		}
	});
});
