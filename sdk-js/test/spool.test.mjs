// The spool on a disk that fails, and owners that are taken for dead.
import assert from "node:assert/strict";
import {
	mkdirSync,
	readdirSync,
	readFileSync,
	rmdirSync,
	rmSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BaseClient } from "../dist/esm/client.js";
import { Spool } from "../dist/esm/delivery/spool.js";
import { nodePlatform } from "../dist/esm/platform/node.js";
import { testClient } from "./support/client.mjs";
import { startProgram, temporaryFolder } from "./support/program.mjs";
import { startServer } from "./support/server.mjs";
import { patienceMs, until } from "./support/wait.mjs";

// The port of a server that is gone, and may come back.
async function gonePort() {
	const server = await startServer();
	await server.close();
	return server.port;
}

function spoolingClient(port, directory) {
	const endpoint = `http://127.0.0.1:${port}`;
	return testClient({ endpoint, inFlight: 2, batchRecords: 10, spool: { directory } });
}

function emit(client, first, end) {
	for (let number = first; number < end; number += 1) {
		client.info(`log ${number}`);
	}
}

// Makes each write to the only folder fail, until the returned function is called.
function blockWrites(directory) {
	const [folder] = readdirSync(directory);
	const segment = join(directory, folder, "0000000000.seg");
	mkdirSync(segment);
	return () => rmdirSync(segment);
}

// Makes every folder look like a dead process's.
function buryOwners(directory) {
	for (const name of readdirSync(directory)) {
		const file = join(directory, name, "owner");
		writeFileSync(file, readFileSync(file, "utf8").replace(`"pid":${process.pid},`, '"pid":0,'));
	}
}

const renewIntervalMs = 30_000;
const unlimited = { bytesMax: 1 << 28, ageMaxMs: 86_400_000, sync: "interval" };

test("a process that cannot be looked at is not gone", async () => {
	const program = `
		import { openSync } from "node:fs";
		import { startOf } from "./dist/esm/delivery/spool/owner.js";
		const error = (action) => { try { action(); } catch ({ code }) { return code; } };
		const opened = () => openSync("/dev/null");
		while (error(opened) === undefined);
		console.log(error(() => startOf(process.pid)));`;
	const limited = 'ulimit -n 256 && exec "$0" --input-type=module --eval "$1"';
	const { done } = startProgram(["-c", limited, process.execPath, program], {}, "sh");
	assert.deepEqual(await done, { code: 0, signal: null, stdout: "EMFILE\n", stderr: "" });
});

test("a folder whose owner cannot be read is left alone, however old it is", async (t) => {
	const directory = temporaryFolder(t);
	const folder = join(directory, "0123456789abcdef");
	mkdirSync(join(folder, "owner"), { recursive: true });
	utimesSync(folder, new Date(0), new Date(0));
	const spool = new Spool({ directory, ...unlimited });
	await spool.adopt(() => {});
	spool.close();
	assert.deepEqual(readdirSync(directory), ["0123456789abcdef"]);
});

test("who was taken for dead goes on, and nothing is lost or counted as dropped", async (t) => {
	const directory = temporaryFolder(t);
	const port = await gonePort();
	const first = spoolingClient(port, directory);
	emit(first, 0, 95);
	assert.equal((await first.flush(0)).spooled, 95);
	buryOwners(directory);
	const second = spoolingClient(port, directory);
	await second.adoption();
	assert.equal(second.stats().adoptedWaiting, 95);
	emit(first, 95, 195);
	assert.deepEqual((await first.flush(0)).dropped, {});
	const server = await startServer({ port });
	t.after(() => server.close());
	await first.flush(patienceMs);
	await until(() => second.stats().adoptedWaiting === 0, "the answers");
	assert.equal(new Set(server.records.map(({ message }) => message)).size, 195);
	assert.equal(server.records.length, 195);
	const { sent, spooled, dropped, spoolFailures } = first.stats();
	assert.deepEqual([sent + spooled, dropped, spoolFailures], [195, {}, 0]);
	assert.ok(spooled > 0, "what was on disk alone is the other's");
	assert.equal(second.stats().adoptedSent, 95);
	assert.ok(first.notices.includes("the spool was taken over, going on with a new one"));
	await Promise.all([first.shutdown(patienceMs), second.shutdown(patienceMs)]);
	assert.deepEqual(readdirSync(directory), []);
});

test("what is another's before it is forced to disk is no failure", async (t) => {
	const directory = temporaryFolder(t);
	const spool = new Spool({ directory, ...unlimited });
	spool.append({
		batchId: new Uint8Array(16),
		producerId: new Uint8Array(16),
		sequence: 1n,
		recordCount: 1,
		createdUnixNano: 1n,
		request: new Uint8Array(10),
	});
	const [folder] = readdirSync(directory);
	rmSync(join(directory, folder), { recursive: true });
	assert.ok(spool.isTaken);
	const synced = spool.sync();
	spool.startOver();
	await synced;
	assert.ok(!spool.isTaken);
	spool.close();
	assert.deepEqual(readdirSync(directory), []);
});

test("a disk that works again is used again, though no batch is answered", async (t) => {
	const directory = temporaryFolder(t);
	const client = spoolingClient(await gonePort(), directory);
	const unblock = blockWrites(directory);
	emit(client, 0, 100);
	const { spooled, pending } = await client.flush(0);
	assert.deepEqual([spooled, pending], [0, 100]);
	unblock();
	await until(() => client.stats().spooled === 100, "all are in the spool");
	assert.ok(
		client.notices.some((text) => text.startsWith("the spool fails, logs stay in memory: ")),
	);
	const report = await client.shutdown(0);
	assert.deepEqual([report.spooled, report.dropped], [100, {}]);
});

test("at the end the disk is tried once more", async (t) => {
	const directory = temporaryFolder(t);
	const client = spoolingClient(await gonePort(), directory);
	const unblock = blockWrites(directory);
	emit(client, 0, 100);
	await client.flush(0);
	unblock();
	const report = await client.shutdown(0);
	assert.deepEqual([report.spooled, report.dropped], [100, {}]);
});

test("what was written is forced to disk soon, though nothing else happens", async (t) => {
	const server = await startServer({ answers: [{ stall: true }] });
	t.after(() => server.close());
	// The renewal of the owner would bring it about as well.
	const later = (delayMs, call) =>
		delayMs < renewIntervalMs / 2 && nodePlatform.later(delayMs, call);
	let syncs = 0;
	class CountingSpool extends Spool {
		async sync() {
			await super.sync();
			syncs += 1;
		}
	}
	const client = new BaseClient(
		{
			endpoint: server.endpoint,
			spool: { directory: temporaryFolder(t) },
			attemptTimeoutMs: renewIntervalMs,
			onNotice: () => {},
		},
		{ ...nodePlatform, later, openSpool: (options) => new CountingSpool(options) },
	);
	client.fatal("once");
	await until(() => syncs === 1, "it is on the disk");
	await client.shutdown(0);
});

test("where logs wait is said as it is when an address is lost", async (t) => {
	for (const [place, block] of [
		["in the spool", () => {}],
		["in memory", blockWrites],
	]) {
		const directory = temporaryFolder(t);
		const client = spoolingClient(await gonePort(), directory);
		block(directory);
		emit(client, 0, 1);
		await client.flush(0);
		const isLost = (text) => text.startsWith("cannot reach ");
		await until(() => client.notices.some(isLost), "the notice");
		assert.ok(client.notices.find(isLost).includes(`; logs are kept ${place} and`));
		await client.shutdown(0);
	}
});
