// How programs end: by themselves, by process.exit, by a kill; and what becomes of their last logs.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { packageFolder, run, startProgram, temporaryFolder } from "./support/program.mjs";
import { startServer } from "./support/server.mjs";
import { until } from "./support/wait.mjs";

const spoolProgram = `${packageFolder}/test/programs/spool.mjs`;
const adoptProgram = `${packageFolder}/test/programs/adopt.mjs`;

async function withServer(t, options = {}) {
	const server = await startServer(options);
	t.after(() => server.close());
	return server;
}

async function goneEndpoint() {
	const server = await startServer();
	await server.close();
	return server.endpoint;
}

const numbers = (server) => server.records.map(({ message }) => Number(message.split(" ")[1]));

test("a program that ends by itself sends its last logs", async (t) => {
	const server = await withServer(t);
	const { code, stderr } = await run(
		`import { init } from "@logweir/sdk"; init("ending"); console.log("last words");`,
		{ LOGWEIR_ENDPOINT: server.endpoint },
	);
	assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
	assert.deepEqual(
		server.records.map(({ message }) => message),
		["last words"],
	);
});

test("a program that logs whenever it is told of its end does end", async (t) => {
	const server = await withServer(t);
	const { code, stdout } = await run(
		`import { init } from "@logweir/sdk";
		init("ending");
		console.log("work");
		let times = 0;
		process.on("beforeExit", () => {
			times += 1;
			if (times > 20) process.exit(9);
			console.log("bye", times);
		});`,
		{ LOGWEIR_ENDPOINT: server.endpoint },
	);
	assert.equal(code, 0, stdout);
	const messages = server.records.map(({ message }) => message);
	assert.deepEqual(messages.slice(0, 2), ["work", "bye 1"]);
});

test("logs leave while the program goes on, without a flush", async (t) => {
	const server = await withServer(t);
	const { code, stdout } = await run(
		`import { Client } from "@logweir/sdk";
		const client = new Client({ batchDelayMs: 1 });
		client.info("one");
		const timer = setInterval(() => {
			if (client.stats().sent === 1) { clearInterval(timer); console.log("sent"); }
		}, 1);`,
		{ LOGWEIR_ENDPOINT: server.endpoint },
	);
	assert.deepEqual({ code, stdout }, { code: 0, stdout: "sent\n" });
});

test("process.exit without a spool: one line says how many are lost", async () => {
	const { code, stderr } = await run(
		`import { Client } from "@logweir/sdk";
		const client = new Client();
		for (let n = 0; n < 3; n += 1) client.info("lost");
		process.exit(3);`,
		{ LOGWEIR_ENDPOINT: await goneEndpoint() },
	);
	assert.equal(code, 3);
	assert.equal(stderr, "logweir: logs dropped so far: shutdown_timeout 3\n");
});

test("a burst of 50,000 and process.exit with a spool: the next process sends them all", async (t) => {
	const server = await withServer(t);
	const spool = temporaryFolder(t);
	const { code, stdout, stderr } = await run(
		`import { Client } from "@logweir/sdk";
		const client = new Client();
		for (let n = 0; n < 50_000; n += 1) client.info("log " + n, { user_id: n });
		process.on("exit", () => console.log(JSON.stringify(client.stats())));
		process.exit();`,
		{ LOGWEIR_ENDPOINT: server.endpoint, LOGWEIR_SPOOL_DIR: spool },
	);
	const stats = JSON.parse(stdout);
	assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
	assert.deepEqual([stats.emitted, stats.spooled, stats.dropped], [50_000, 50_000, {}]);
	const next = await startProgram([adoptProgram], {
		LOGWEIR_ENDPOINT: server.endpoint,
		LOGWEIR_SPOOL_DIR: spool,
	}).done;
	assert.equal(JSON.parse(next.stdout).adoptedSent, 50_000);
	assert.equal(new Set(numbers(server)).size, 50_000);
	assert.equal(server.records.length, 50_000);
	assert.deepEqual(readdirSync(spool), []);
});

test("a program that is killed leaves what its spool has, and the next sends it once", async (t) => {
	const server = await withServer(t);
	const spool = temporaryFolder(t);
	const env = { LOGWEIR_ENDPOINT: server.endpoint, LOGWEIR_SPOOL_DIR: spool };
	const safe = [];
	for (const first of [0, 1_000_000]) {
		const { child, output, done } = startProgram([spoolProgram, String(first)], env);
		await until(() => output.stdout.split("\n").length > 20, "some safe logs");
		child.kill("SIGKILL");
		const { stdout } = await done;
		const last = stdout.trimEnd().split("\n").at(-1);
		safe.push([first, Number(last.split(" ")[1])]);
	}
	const { stdout, code } = await startProgram([adoptProgram], env).done;
	assert.equal(code, 0);
	assert.equal(JSON.parse(stdout).adoptedWaiting, 0);
	const stored = new Set(numbers(server));
	assert.equal(stored.size, server.records.length, "each once");
	for (const [first, end] of safe) {
		for (let number = first; number < end; number += 1) {
			assert.ok(stored.has(number), `log ${number}`);
		}
	}
	assert.deepEqual(readdirSync(spool), []);
});

test("what a program dies of is sent by the next", async (t) => {
	const server = await withServer(t);
	const env = { LOGWEIR_ENDPOINT: server.endpoint, LOGWEIR_SPOOL_DIR: temporaryFolder(t) };
	const { code, stderr } = await run(
		`import { init } from "@logweir/sdk"; init("ending"); throw new TypeError("boom");`,
		env,
	);
	assert.equal(code, 1);
	assert.match(stderr, /TypeError: boom/);
	await startProgram([adoptProgram], env).done;
	const [record] = server.records;
	assert.deepEqual([record.message, record.level], ["boom", 6]);
});

test("SIGTERM is the program's: it ends as it would without the library", async () => {
	const { child, output, done } = startProgram(
		[
			"--input-type=module",
			"--eval",
			`import { init } from "@logweir/sdk";
			init("ending"); console.log("ready"); setInterval(() => {}, 1_000);`,
		],
		{ LOGWEIR_ENDPOINT: await goneEndpoint() },
	);
	await until(() => output.stdout.includes("ready"), "it is ready");
	child.kill("SIGTERM");
	const { code, signal } = await done;
	assert.deepEqual({ code, signal }, { code: null, signal: "SIGTERM" });
});

for (const kind of ["cluster", "worker_threads"]) {
	test(`${kind}: each has a client of its own, and all logs arrive once`, async (t) => {
		const server = await withServer(t);
		const { code, stderr } = await startProgram([`test/programs/${kind}.mjs`], {
			LOGWEIR_ENDPOINT: server.endpoint,
			LOGWEIR_SPOOL_DIR: temporaryFolder(t),
		}).done;
		assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
		assert.equal(server.records.length, 400);
		assert.equal(new Set(numbers(server)).size, 400);
		const batches = [...server.stored.values()].map(({ batch }) => batch);
		const producers = batches.map(({ producer }) =>
			Buffer.from(producer.producerId).toString("hex"),
		);
		assert.equal(new Set(producers).size, 4);
	});
}

test("what a client leaves at its end, the next of its process takes over", async (t) => {
	const { code, stdout } = await run(
		`import { Client } from "@logweir/sdk";
		const first = new Client();
		first.info("left");
		const { spooled } = await first.shutdown(0);
		const second = new Client();
		await second.adoption();
		console.log(spooled, second.stats().adoptedWaiting);
		await second.shutdown(0);`,
		{ LOGWEIR_ENDPOINT: await goneEndpoint(), LOGWEIR_SPOOL_DIR: temporaryFolder(t) },
	);
	assert.deepEqual({ code, stdout }, { code: 0, stdout: "1 1\n" });
});

test("a spool that cannot be opened is told, and the logs are sent all the same", async (t) => {
	const server = await withServer(t);
	const { code, stderr } = await run(
		`import { Client } from "@logweir/sdk"; new Client().info("sent");`,
		{ LOGWEIR_ENDPOINT: server.endpoint, LOGWEIR_SPOOL_DIR: "/dev/null/spool" },
	);
	assert.equal(code, 0);
	assert.match(stderr, /^logweir: cannot open the spool, going on without: .*ENOTDIR.*\n$/);
	assert.equal(server.records.length, 1);
});

test("no more than one line for a server that is down, and no exception", async () => {
	const { code, stderr } = await run(
		`import { init } from "@logweir/sdk";
		const client = init("ending");
		for (let n = 0; n < 100; n += 1) { console.log(n); await client.flush(20); }
		await client.shutdown(0);`,
		{ LOGWEIR_ENDPOINT: await goneEndpoint() },
	);
	assert.equal(code, 0);
	const lines = stderr.trimEnd().split("\n");
	assert.equal(lines.length, 2, stderr);
	assert.match(lines[0], /^logweir: cannot reach /);
	assert.match(lines[1], /^logweir: logs dropped so far: shutdown_timeout 100$/);
});

test("a program whose server is not one of ours gets one clear line", async (t) => {
	const { createServer } = await import("node:http");
	const web = createServer((_request, response) => response.end("hello"));
	await new Promise((resolve) => web.listen(0, "127.0.0.1", resolve));
	t.after(() => web.close());
	const { code, stderr } = await run(
		`import { Client } from "@logweir/sdk";
		const client = new Client(); client.info("lost"); await client.shutdown(2_000);`,
		{ LOGWEIR_ENDPOINT: `http://127.0.0.1:${web.address().port}` },
	);
	assert.equal(code, 0);
	assert.match(
		stderr,
		/^logweir: cannot reach http:\/\/\S+ \(it does not speak HTTP\/2; is this the port for gRPC\?\); .*\nlogweir: logs dropped so far: shutdown_timeout 1\n$/,
	);
});
