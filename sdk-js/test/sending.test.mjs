// A client against a server that answers by a script: retries, tokens, flushes, the end.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import zlib from "node:zlib";
import { Client, ConfigError } from "../dist/esm/index.js";
import { handshake } from "../dist/esm/platform/node.js";
import { testClient } from "./support/client.mjs";
import { startServer } from "./support/server.mjs";
import { patienceMs, until } from "./support/wait.mjs";

const hourMs = 3_600_000;

async function withServer(options, run) {
	const server = await startServer(options);
	try {
		await run(server);
	} finally {
		await server.close();
	}
}

test("a retry repeats the very bytes", () =>
	withServer(
		{ answers: [{ refuse: { code: "UNAVAILABLE" } }, { refuse: { code: "INTERNAL" } }] },
		async (server) => {
			const client = testClient({ endpoint: server.endpoint });
			client.info("once", { user_id: 1 });
			await client.shutdown(patienceMs);
			const [first, ...others] = server.attempts;
			assert.equal(others.length, 2);
			for (const other of others) {
				assert.deepEqual(other, first);
			}
		},
	));

test("a stream that is broken off is tried again, whatever its code", () =>
	withServer({ answers: [1, 2, 7, 8, 11, 12].map((reset) => ({ reset })) }, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		client.info("once");
		await client.shutdown(patienceMs);
		assert.equal(client.stats().sent, 1);
		assert.equal(server.attempts.length, 7);
	}));

test("a server that does not answer is given up after the attempt's time", () =>
	withServer({ answers: [{ stall: true }] }, async (server) => {
		const client = testClient({ endpoint: server.endpoint, attemptTimeoutMs: 50 });
		client.info("once");
		await client.shutdown(patienceMs);
		assert.equal(client.stats().sent, 1);
		assert.equal(server.attempts.length, 2);
	}));

test("one connection carries all, under an honest name", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint, batchRecords: 1 });
		for (let number = 0; number < 50; number += 1) {
			client.info(`log ${number}`);
		}
		await client.flush(patienceMs);
		assert.equal(server.sessionCount, 1);
		assert.equal(server.headers[0]["user-agent"], "logweir-sdk-js/0.1.0");
		await client.shutdown();
	}));

for (const compression of ["gzip", ...(zlib.zstdCompress === undefined ? [] : ["zstd"])]) {
	test(`${compression}: what is large is compressed, what is small is not`, () =>
		withServer({}, async (server) => {
			const client = testClient({ endpoint: server.endpoint, compression });
			client.info("small");
			await client.flush(patienceMs);
			client.info("m".repeat(10_000));
			await client.shutdown(patienceMs);
			const encodings = server.headers.map((headers) => headers["grpc-encoding"]);
			assert.deepEqual(encodings, [undefined, compression]);
			assert.deepEqual(
				server.records.map(({ message }) => message.length),
				[5, 10_000],
			);
		}));
}

test("a token is read again when it is refused, from a file and from a function", () =>
	withServer({ token: "new" }, async (server) => {
		const file = join(mkdtempSync(join(tmpdir(), "logweir-")), "token");
		writeFileSync(file, "old\n");
		const fromFile = testClient({ endpoint: server.endpoint, token: { file } });
		writeFileSync(file, "new\n");
		// The first reading is at the first attempt.
		let readings = 0;
		const token = async () => {
			readings += 1;
			return readings === 1 ? "old" : "new";
		};
		const fromFunction = testClient({ endpoint: server.endpoint, token });
		for (const client of [fromFile, fromFunction]) {
			client.info("once");
			await client.shutdown(patienceMs);
			assert.equal(client.stats().sent, 1);
		}
		assert.equal(readings, 2);
	}));

test("a refused token is told once, and the logs are held", () =>
	withServer({ token: "right" }, async (server) => {
		const client = testClient({ endpoint: server.endpoint, token: "wrong" });
		client.info("held");
		const flushed = client.flush(patienceMs);
		await until(() => server.attempts.length > 4, "some probes");
		assert.equal(client.notices.length, 1);
		assert.match(client.notices[0], /refuses the token \(this token is not known\); logs are held/);
		server.state.token = "wrong";
		assert.equal((await flushed).sent, 1);
		await client.shutdown();
	}));

test("an address that refuses is told with its cause, and when it is back", async () => {
	const first = await startServer();
	const { port, endpoint } = first;
	await first.close();
	const client = testClient({ endpoint });
	client.info("kept");
	client.info("kept too");
	await until(() => client.notices.length > 0, "a notice");
	assert.match(
		client.notices[0],
		/^cannot reach http:\/\/127\.0\.0\.1:\d+ \(connect ECONNREFUSED .*\); logs are kept in memory and sent when it is back$/,
	);
	const flushed = client.flush(patienceMs);
	const second = await startServer({ port });
	assert.equal((await flushed).sent, 2);
	assert.equal(client.notices.length, 2);
	assert.match(client.notices[1], /^http:\/\/127\.0\.0\.1:\d+ is back after \d+ s$/);
	await client.shutdown();
	await second.close();
});

test("a name that does not exist is told", async () => {
	const client = testClient({ endpoint: "http://nowhere.invalid:4317" });
	client.info("kept");
	await until(() => client.notices.length > 0, "a notice");
	assert.match(client.notices[0], /^cannot reach http:\/\/nowhere\.invalid:4317 \(getaddrinfo /);
	await client.shutdown(0);
});

test("an HTTP/2 manager without the field that is read counts as open", async () => {
	for (const manager of [{}, { s: {} }, { s: { conn: {} } }]) {
		assert.equal(await handshake(manager), undefined);
	}
});

test("an address that takes the connection and stays silent is told", async () => {
	const silent = net.createServer(() => {});
	await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));
	const sockets = [];
	silent.on("connection", (socket) => sockets.push(socket.on("error", () => {})));
	const client = testClient({ endpoint: `http://127.0.0.1:${silent.address().port}` });
	client.info("kept");
	await until(() => client.notices.length > 0, "a notice");
	assert.match(
		client.notices[0],
		/^cannot reach http:\/\/127\.0\.0\.1:\d+ \(no answer\); logs are kept/,
	);
	// The attempt, which waits for longer, has not even begun.
	assert.equal(client.stats().queued, 1);
	await client.shutdown(0);
	assert.equal(client.notices.filter((text) => text.startsWith("cannot reach")).length, 1);
	for (const socket of sockets) {
		socket.destroy();
	}
	silent.close();
});

test("TLS on a port without it is told in one line", async () => {
	const plain = net.createServer((socket) => {
		socket.on("error", () => {});
		socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
	});
	await new Promise((resolve) => plain.listen(0, "127.0.0.1", resolve));
	const client = testClient({ endpoint: `https://127.0.0.1:${plain.address().port}` });
	client.info("kept");
	await until(() => client.notices.length > 0, "a notice");
	assert.match(
		client.notices[0],
		/^cannot reach https:\/\/127\.0\.0\.1:\d+ \(TLS: [a-z0-9 ]+\); logs are kept in memory and sent when it is back$/,
	);
	await client.shutdown(0);
	plain.close();
});

test("a batch that is refused for good is told with the address, and what to look at", async () => {
	for (const [code, expected] of [
		["INVALID_ARGUMENT", /^http:\S+ refused a batch for good \(as the test says\)$/],
		[
			"UNIMPLEMENTED",
			/^http:\S+ refused a batch for good \(.*\); is this a Logweir server\? check LOGWEIR_ENDPOINT$/,
		],
	]) {
		await withServer({ answers: [{ refuse: { code } }] }, async (server) => {
			const client = testClient({ endpoint: server.endpoint });
			client.info("refused");
			await client.shutdown(patienceMs);
			assert.match(client.notices[0], expected);
		});
	}
});

test("a token that can no longer be read is told once, and the old one is kept", () =>
	withServer({ token: "old" }, async (server) => {
		let readings = 0;
		const token = () => {
			readings += 1;
			if (readings > 1) {
				throw new Error("as the test says");
			}
			return "old";
		};
		const client = testClient({ endpoint: server.endpoint, token });
		client.info("first");
		await client.flush(patienceMs);
		server.state.token = "new";
		client.info("second");
		const flushed = client.flush(patienceMs);
		await until(() => readings > 4, "some readings");
		server.state.token = "old";
		assert.equal((await flushed).sent, 2);
		const told = client.notices.filter((text) => text.startsWith("the token cannot be read"));
		assert.deepEqual(told, ["the token cannot be read: as the test says"]);
		await client.shutdown();
	}));

test("a token function that never answers is told, and the logs are sent without", () =>
	withServer({}, async (server) => {
		const token = () => new Promise(() => {});
		const client = testClient({ endpoint: server.endpoint, token, attemptTimeoutMs: 50 });
		client.info("once");
		await client.shutdown(patienceMs);
		assert.equal(client.stats().sent, 1);
		assert.deepEqual(client.notices, ["the token cannot be read: no answer within 50 ms"]);
	}));

test("another endpoint takes over", async () => {
	const gone = await startServer();
	await gone.close();
	await withServer({}, async (server) => {
		const client = testClient({ endpoint: `${gone.endpoint},${server.endpoint}` });
		for (let number = 0; number < 10; number += 1) {
			client.info(`log ${number}`);
			await client.flush(patienceMs);
		}
		assert.equal(client.stats().sent, 10);
		assert.equal(client.notices.length, 1);
		await client.shutdown();
	});
});

test("flushes side by side each wait for their own logs", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		const flushes = [];
		for (let number = 1; number <= 20; number += 1) {
			client.info(`log ${number}`);
			flushes.push(client.flush(patienceMs).then(({ sent }) => assert.ok(sent >= number)));
		}
		await Promise.all(flushes);
		assert.equal(client.stats().sent, 20);
		const reports = await Promise.all([client.shutdown(patienceMs), client.shutdown(0)]);
		assert.deepEqual(reports[0], reports[1]);
		assert.deepEqual(await client.flush(), reports[0]);
	}));

test("a flush is over at its deadline, and says what is open", async () => {
	const gone = await startServer();
	await gone.close();
	const client = testClient({ endpoint: gone.endpoint });
	client.info("open");
	const report = await client.flush(10);
	assert.equal(report.pending, 1);
	const last = await client.shutdown(10);
	assert.deepEqual(last.dropped, { shutdown_timeout: 1 });
	client.info("too late");
	assert.equal(client.stats().emittedAfterShutdown, 1);
	assert.equal(client.stats().emitted, 1);
	assert.equal(client.notices.at(-1), "logs dropped so far: shutdown_timeout 1");
});

test("a log does not wait for others longer than the delay, and an urgent one not at all", () =>
	withServer({}, async (server) => {
		const delayed = testClient({ endpoint: server.endpoint, batchDelayMs: 5 });
		delayed.info("after a while");
		await until(() => delayed.stats().sent === 1, "the delayed log");
		const urgent = testClient({ endpoint: server.endpoint, batchDelayMs: hourMs });
		urgent.info("waits");
		urgent.fatal("does not");
		await until(() => urgent.stats().sent === 2, "the urgent log");
		await Promise.all([delayed.shutdown(), urgent.shutdown()]);
	}));

test("what waits for too long is given up as expired", async () => {
	const gone = await startServer();
	await gone.close();
	const client = testClient({ endpoint: gone.endpoint, memoryAgeMaxMs: 20 });
	client.info("in a batch");
	await client.flush(0);
	client.info("in the queue");
	await until(() => client.stats().dropped.expired === 2, "both expire");
	assert.equal(client.stats().queued + client.stats().inFlight, 0);
	await client.shutdown(0);
});

test("beforeSend changes a log, gives it up, or throws; it is not asked about its own logs", () =>
	withServer({}, async (server) => {
		const client = testClient({
			endpoint: server.endpoint,
			beforeSend(record) {
				client.info("from within");
				if (record.message === "throw") {
					throw new Error("as the test says");
				}
				record.message = `${record.message} changed`;
				return !record.message.startsWith("drop");
			},
		});
		for (const message of ["keep", "drop", "throw"]) {
			client.info(message, { kept: true });
		}
		await client.shutdown(patienceMs);
		const messages = server.records.map(({ message }) => message);
		assert.deepEqual(messages, ["from within", "keep changed", "from within", "from within"]);
		assert.deepEqual(client.stats().dropped, { before_send: 2 });
	}));

test("with a beforeSend a log has the same fields as without", () =>
	withServer({}, async (server) => {
		const attributes = {
			latency_ms: 5,
			logger: "app",
			trace_id: "ab".repeat(16),
			span_id: "cd".repeat(8),
			other: 1,
		};
		const error = new TypeError("boom");
		for (const beforeSend of [undefined, () => true]) {
			const client = testClient({ endpoint: server.endpoint, beforeSend });
			client.emit("info", "m", attributes, 5);
			client.emit("error", error, {}, 5);
			await client.shutdown(patienceMs);
		}
		const [plain, failed, ...withHook] = server.records;
		assert.equal(plain.logger, "app");
		assert.equal(failed.attributes.length, 3);
		assert.deepEqual(withHook, [plain, failed]);
	}));

test("what a value logs while it is encoded is a log of its own", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		const nested = {
			get value() {
				client.info("inner", { padding: "x".repeat(100) });
				return "read";
			},
			toJSON() {
				client.emitRecord({ level: 4, message: "innermost" });
				return { a: 1 };
			},
		};
		client.info("outer", { first: 1, value: nested.value, nested, last: "z" });
		client.info("outer getter", { first: 1, __proto__: null, ...{ nested }, last: "z" });
		const getter = {
			first: 1,
			get middle() {
				return nested.value;
			},
			last: "z",
		};
		client.emitRecord({ level: 3, message: "outer record", attributes: getter });
		await client.shutdown(patienceMs);
		const logs = Object.fromEntries(
			server.records.map(({ message, attributes }) => [
				message,
				attributes.map(({ key, value }) => [key, String(value.value).slice(0, 20)]),
			]),
		);
		assert.equal(client.stats().sent, client.stats().emitted);
		assert.equal(server.records.length, 7);
		assert.deepEqual(logs.outer, [
			["first", "1"],
			["value", "read"],
			["nested", '{"a":1}'],
			["last", "z"],
		]);
		assert.deepEqual(logs["outer getter"], [
			["first", "1"],
			["nested", '{"a":1}'],
			["last", "z"],
		]);
		assert.deepEqual(logs["outer record"], [
			["first", "1"],
			["middle", "read"],
			["last", "z"],
		]);
		assert.deepEqual(logs.inner, [["padding", "x".repeat(20)]]);
		assert.deepEqual(logs.innermost, []);
	}));

test("a value that logs itself without end comes to one, and is counted", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		const endless = {
			toJSON() {
				client.info("again", { endless });
				return {};
			},
		};
		client.info("first", { endless });
		await client.shutdown(patienceMs);
		const { emitted, sent, dropped } = client.stats();
		assert.ok(dropped.internal_sdk_error > 0);
		assert.equal(emitted, sent + dropped.internal_sdk_error);
	}));

test("an invalid time is said once, and its logs are sent", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		client.emit("info", "first", {}, Number.NaN);
		client.emitRecord({ message: "second", timeUnixNano: -1n });
		await client.shutdown(patienceMs);
		assert.deepEqual(
			server.records.map(({ message }) => message),
			["first", "second"],
		);
		assert.ok(server.records.every(({ timeUnixNano }) => timeUnixNano > 0n));
		assert.equal(client.notices.filter((text) => text.includes("time of the call")).length, 1);
	}));

test("a beforeSend that returns a promise gives its logs up, whatever becomes of it", () =>
	withServer({}, async (server) => {
		const unhandled = [];
		const listen = (error) => unhandled.push(error);
		process.on("unhandledRejection", listen);
		const client = testClient({
			endpoint: server.endpoint,
			async beforeSend() {
				throw new Error("as the test says");
			},
		});
		client.info("one");
		client.info("two");
		await client.shutdown(patienceMs);
		await new Promise((resolve) => setImmediate(resolve));
		process.off("unhandledRejection", listen);
		assert.deepEqual(unhandled, []);
		assert.deepEqual(client.stats().dropped, { before_send: 2 });
		assert.equal(client.notices.filter((text) => text.includes("promise")).length, 1);
	}));

test("rejected logs are told once per reason", () =>
	withServer({ answers: [{ reject: [0, 1] }, { reject: [0] }] }, async (server) => {
		const client = testClient({ endpoint: server.endpoint, batchRecords: 2, inFlight: 1 });
		for (let number = 0; number < 4; number += 1) {
			client.info(`log ${number}`);
		}
		await client.shutdown(patienceMs);
		assert.deepEqual(client.notices, ["the server rejected 1 logs, test_rule: as the test says"]);
		const heard = [];
		const options = { endpoint: server.endpoint, onRejected: (rejection) => heard.push(rejection) };
		server.script.push({ reject: [0] });
		const listening = testClient(options);
		listening.info("log");
		await listening.shutdown(patienceMs);
		assert.deepEqual(heard, [{ reason: "test_rule", message: "as the test says", count: 1 }]);
	}));

test("hooks that throw reach nobody", () =>
	withServer({ answers: [{ reject: [0] }] }, async (server) => {
		const fail = () => {
			throw new Error("as the test says");
		};
		const client = testClient({
			endpoint: server.endpoint,
			onRejected: fail,
			onNotice: fail,
			token: fail,
		});
		client.info("log");
		await client.shutdown(patienceMs);
		assert.equal(client.stats().rejected, 1);
	}));

test("nothing that is handed over throws, and all of it is counted", () =>
	withServer({}, async (server) => {
		const client = testClient({ endpoint: server.endpoint });
		const trap = new Proxy(
			{},
			{
				ownKeys: () => {
					throw new Error("no keys");
				},
			},
		);
		const odd = [
			undefined,
			null,
			Symbol("s"),
			1n,
			{},
			[],
			() => {},
			Object.create(null),
			trap,
			NaN,
		];
		for (const value of odd) {
			client.emit(value, value, value);
			client.info(value, { value });
			client.emitRecord(value);
		}
		const fail = () => {
			throw new Error("as the test says");
		};
		const traps = { get: fail, has: fail, ownKeys: fail, getPrototypeOf: fail };
		client.emitRecord(new Proxy({}, traps));
		client.emitRecord({
			get level() {
				return fail();
			},
		});
		client.info("x".repeat(5_000_000), { y: "y".repeat(5_000_000) });
		const report = await client.shutdown(patienceMs);
		const { emitted, sent, dropped } = client.stats();
		assert.equal(report.pending, 0);
		assert.equal(emitted, 3 * odd.length + 3);
		assert.equal(emitted, sent + (dropped.internal_sdk_error ?? 0));
	}));

test("what the code sets wrongly fails at once, and names the setting", () => {
	for (const [setting, value] of Object.entries({
		endpoint: "ftp://a",
		token: "a\nb",
		service: "a b",
		queueRecords: "many",
		dropPolicy: "random",
		compression: "lzma",
		urgentLevel: "loud",
		sampleRates: { loud: 1 },
		redactKeys: "password",
		beforeSend: "none",
		spool: { directory: "" },
		tls: { caFile: "/nowhere" },
	})) {
		const isNamed = (error) => error instanceof ConfigError && error.setting === setting;
		assert.throws(() => new Client({ [setting]: value }), isNamed, setting);
	}
});

test("a setting that there is not is refused, with the one that may be meant", () => {
	for (const [options, setting, meant] of [
		[{ endpont: "http://a" }, "endpont", "endpoint"],
		[{ batch_records: 1 }, "batch_records", "batchRecords"],
		[{ SERVICE: "a" }, "SERVICE", "service"],
		[{ quueRecords: undefined }, "quueRecords", "queueRecords"],
		[{ retry: { firstms: 1 } }, "retry.firstms", "retry.firstMs"],
		[{ tls: { ca: "ca.pem" } }, "tls.ca", "tls.caFile"],
		[{ spool: { directory: "a", maxBytes: 1 } }, "spool.maxBytes", "spool.bytesMax"],
	]) {
		const isTold = (error) =>
			error instanceof ConfigError &&
			error.setting === setting &&
			error.message === `there is no setting ${setting}; did you mean ${meant}?`;
		assert.throws(() => new Client(options), isTold, setting);
	}
});
