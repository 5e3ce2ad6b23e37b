// The whole path, against the real server: the binary that LOGWEIR_BINARY names.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { logweir, startLogweir, storedMessages } from "./support/logweir.mjs";
import { packageFolder, run, startProgram } from "./support/program.mjs";

// Most logs that wait in the program that emits them.
const waitingMax = "10000";

// What a program prints last.
function countsIn(stdout) {
	return JSON.parse(stdout.trimEnd().split("\n").at(-1));
}

function startEmitting(logs, env) {
	return startProgram(["test/programs/emit.mjs", "0", String(logs), waitingMax], env);
}

test("the README's first program works as it stands there", async (t) => {
	const server = await startLogweir(t);
	const readme = readFileSync(`${packageFolder}/README.md`, "utf8");
	const [, program] = /```js\n([\s\S]*?)```/.exec(readme);
	const { code, stderr } = await run(program, server.env);
	assert.equal(code, 0, stderr);
	assert.deepEqual(storedMessages(server.env).sort(), ["card declined", "order placed"]);
	assert.match(logweir(["report"], server.env), /shop +2 +2 +0 +0 +0 +0 /);
});

test("a wrong token: one clear line, no exception", async (t) => {
	const server = await startLogweir(t);
	const { code, stderr } = await run(
		`import { init } from "@logweir/sdk";
		const client = init("shop");
		for (let n = 0; n < 20; n += 1) { console.log(n); await client.flush(50); }
		await client.shutdown(0);`,
		{ ...server.env, LOGWEIR_TOKEN: "wrong" },
	);
	assert.equal(code, 0);
	const [first, second, ...more] = stderr.trimEnd().split("\n");
	assert.match(
		first,
		/^logweir: http:\/\/\S+ refuses the token \(.+\); logs are held; give a valid one/,
	);
	assert.match(second, /^logweir: logs dropped so far: shutdown_timeout 20$/);
	assert.deepEqual(more, []);
});

test("a server that is killed again and again: each log once, none missing", async (t) => {
	let server = await startLogweir(t);
	const { dataDir, endpoint, env } = server;
	const logs = 30_000;
	const { done } = startEmitting(logs, env);
	const listen = new URL(endpoint).host;
	for (let kill = 0; kill < 3; kill += 1) {
		await server.kill();
		server = await startLogweir(t, { listen, dataDir });
	}
	const { code, stdout, stderr } = await done;
	assert.equal(code, 0, stderr);
	const { emitted, sent, dropped } = countsIn(stdout);
	assert.deepEqual({ emitted, sent, dropped }, { emitted: logs, sent: logs, dropped: {} });
	const messages = storedMessages(env);
	assert.equal(messages.length, logs);
	assert.equal(new Set(messages).size, logs);
});

test("a batch that the server finds too large is split, and the account balances", async (t) => {
	process.env.LOGWEIR_SERVER__LIMITS__BATCH_RECORDS_MAX = "20";
	t.after(() => {
		delete process.env.LOGWEIR_SERVER__LIMITS__BATCH_RECORDS_MAX;
	});
	const server = await startLogweir(t);
	const { code, stdout } = await startEmitting(1_000, server.env).done;
	assert.equal(code, 0);
	assert.equal(countsIn(stdout).sent, 1_000);
	assert.equal(new Set(storedMessages(server.env)).size, 1_000);
});
