// adopt.mjs: sends what dead processes left in the spool, and prints its counts as one line of JSON.
import { programClient, turn } from "./support.mjs";

const shutdownTimeoutMs = 120_000;

const client = programClient();
await client.adoption();
while (client.stats().adoptedWaiting > 0) {
	await turn();
}
await client.shutdown(shutdownTimeoutMs);
console.log(JSON.stringify(client.stats()));
process.exit(0);
