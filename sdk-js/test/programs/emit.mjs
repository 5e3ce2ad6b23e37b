// emit.mjs FIRST COUNT WAITING_MAX: emits numbered logs, prints "emitted", shuts down and prints its
// counts as one line of JSON. It waits while more than WAITING_MAX of its logs do.
import { emitNumbered, programClient, turn } from "./support.mjs";

const logsPerTurn = 100;
const shutdownTimeoutMs = 120_000;

const [first, count, waitingMax] = process.argv.slice(2).map(Number);
const client = programClient();
for (let number = first; number < first + count; number += 1) {
	emitNumbered(client, number, `log ${number} of the sdk test`);
	if (number % logsPerTurn === 0) {
		do {
			await turn();
		} while (client.stats().queued > waitingMax);
	}
}
console.log("emitted");
await client.shutdown(shutdownTimeoutMs);
console.log(JSON.stringify(client.stats()));
process.exit(0);
