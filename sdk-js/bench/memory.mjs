// What a full queue takes in memory, against its bound, while the server is away. Run with --expose-gc.
import { Client } from "../dist/esm/index.js";
import { attributesOf, table } from "./support.mjs";

const queueBytes = 64 << 20;
const fillings = 5;

function used() {
	global.gc();
	global.gc();
	const { heapUsed, external } = process.memoryUsage();
	return heapUsed + external;
}

function emitUntilFull(client, text) {
	const before = client.stats().dropped.queue_overflow ?? 0;
	while ((client.stats().dropped.queue_overflow ?? 0) === before) {
		for (let number = 0; number < 1_000; number += 1) {
			client.info(text, attributesOf(number));
		}
	}
}

function measured(text) {
	const client = new Client({
		endpoint: "http://127.0.0.1:9",
		queueRecords: 10_000_000,
		queueBytes,
		onNotice: () => {},
	});
	client.info(text, attributesOf(0));
	const before = used();
	for (let filling = 0; filling < fillings; filling += 1) {
		emitUntilFull(client, text);
	}
	const share = (used() - before) / queueBytes;
	void client.shutdown(0);
	return `${(share * 100).toFixed(1)} % of ${queueBytes >> 20} MiB`;
}

table("memory of a full queue, server away", [
	["short logs", measured("request completed")],
	["logs of 1 KB", measured("m".repeat(1_000))],
	["logs of 60 KB", measured("m".repeat(60_000))],
]);
process.exit(0);
