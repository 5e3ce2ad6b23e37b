// The accounts of the vectors: a client against a server that answers by a script.
import assert from "node:assert/strict";
import { test } from "node:test";
import { testClient } from "./support/client.mjs";
import { startServer } from "./support/server.mjs";
import { vectors } from "./support/vectors.mjs";
import { patienceMs } from "./support/wait.mjs";

const settingNames = {
	queue_records: "queueRecords",
	batch_records: "batchRecords",
	sample_rates: "sampleRates",
};

function optionsOf(settings) {
	// Sending never begins before the running code has come to its end: a client is paused by itself.
	const { is_paused: _, ...others } = settings;
	return Object.fromEntries(
		Object.entries(others).map(([name, value]) => [settingNames[name], value]),
	);
}

function countsOf(account) {
	return {
		emitted: Number(account.emitted),
		dropped: Object.fromEntries(
			account.dropped.map(({ reason, count }) => [reason, Number(count)]),
		),
		rejected: Number(account.rejected),
	};
}

const producerOf = ({ batch }) => Buffer.from(batch.producer.producerId).toString("hex");
const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);

// The last account of each producer, by the highest sequence stored.
function lastAccounts(stored) {
	const last = new Map();
	for (const entry of stored) {
		const before = last.get(producerOf(entry));
		if (before === undefined || before.batch.producer.sequence < entry.batch.producer.sequence) {
			last.set(producerOf(entry), entry);
		}
	}
	return [...last.values()].map(({ batch }) => countsOf(batch.producer.account));
}

for (const testCase of vectors("accounts").cases) {
	test(testCase.name, async () => {
		const server = await startServer({ answers: testCase.answers });
		const client = testClient({
			endpoint: server.endpoint,
			inFlight: 1,
			...optionsOf(testCase.settings),
		});
		let number = 0;
		for (const { level, count } of testCase.emit) {
			for (let log = 0; log < count; log += 1) {
				client.emit(level, `log ${number}`);
				number += 1;
			}
		}
		const report = await client.flush(patienceMs);
		assert.equal(report.pending, 0);
		const { emitted, sent, rejected, dropped } = client.stats();
		assert.deepEqual({ emitted, sent, rejected, dropped }, testCase.stats);
		assert.equal(emitted, sent + rejected + total(dropped));

		const stored = [...server.stored.values()];
		assert.equal(server.records.length, testCase.stored);
		assert.equal(new Set(server.records.map(({ message }) => message)).size, testCase.stored);
		if (testCase.attempts !== null) {
			assert.equal(server.attempts.length, testCase.attempts);
		}
		const accounts = lastAccounts(stored);
		if (testCase.account !== null) {
			assert.deepEqual(accounts, [testCase.account]);
		}
		const sums = { emitted: 0, dropped: 0, rejected: 0 };
		for (const account of accounts) {
			sums.emitted += account.emitted;
			sums.dropped += total(account.dropped);
			sums.rejected += account.rejected;
		}
		assert.equal(sums.emitted, server.records.length + sums.rejected + sums.dropped);
		await client.shutdown(patienceMs);
		await server.close();
	});
}
