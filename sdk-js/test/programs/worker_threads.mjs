// Four threads, each with logs of its own.
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { programClient } from "./support.mjs";

const threads = 4;
const logs = 100;

if (isMainThread) {
	for (let number = 0; number < threads; number += 1) {
		new Worker(new URL(import.meta.url), { workerData: number * logs });
	}
} else {
	const client = programClient();
	for (let number = workerData; number < workerData + logs; number += 1) {
		client.info(`log ${number}`);
	}
}
