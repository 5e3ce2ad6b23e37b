// emit.mjs FIRST COUNT: emits numbered logs, shuts down and prints its counts as one line of JSON.
import { emitNumbered, programClient, turn } from "./support.mjs";

const waitingMax = 10_000;
const logsPerTurn = 100;
const shutdownTimeoutMs = 120_000;

const [first, count] = process.argv.slice(2).map(Number);
const client = programClient();
for (let number = first; number < first + count; number += 1) {
	emitNumbered(client, number, `log ${number} of the sdk test`);
	if (number % logsPerTurn === 0) {
		do {
			await turn();
		} while (client.stats().queued > waitingMax);
	}
}
await client.shutdown(shutdownTimeoutMs);
console.log(JSON.stringify(client.stats()));
process.exit(0);
