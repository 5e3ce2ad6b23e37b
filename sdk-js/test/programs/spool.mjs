// spool.mjs FIRST: emits numbered logs until it is killed, and says which its spool has.
import { writeSync } from "node:fs";
import { emitNumbered, programClient, turn } from "./support.mjs";

const step = 50;
const stdout = 1;

const [first] = process.argv.slice(2).map(Number);
const client = programClient({ batchRecords: 200 });
for (let start = first; ; start += step) {
	for (let number = start; number < start + step; number += 1) {
		emitNumbered(client, number, `log ${number} of the sdk test`);
	}
	// What is not answered at once must be in the spool.
	const { pending } = await client.flush(0);
	if (pending === 0) {
		writeSync(stdout, `safe ${start + step}\n`);
	}
	await turn();
}
