// Four processes of a cluster, each with logs of its own.
import cluster from "node:cluster";
import { programClient } from "./support.mjs";

const processes = 4;
const logs = 100;

if (cluster.isPrimary) {
	for (let number = 0; number < processes; number += 1) {
		cluster.fork({ FIRST: String(number * logs) });
	}
} else {
	const client = programClient();
	const first = Number(process.env.FIRST);
	for (let number = first; number < first + logs; number += 1) {
		client.info(`log ${number}`);
	}
	await client.shutdown(60_000);
	process.disconnect();
}
