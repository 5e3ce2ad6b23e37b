// What the programs have in common: they run in processes of their own, told by their environment.
import { Client } from "@logweir/sdk";

const retryWaitMs = 10;
const firstTimeUnixNano = 1_700_000_000_000_000_000n;

export function programClient(options) {
	return new Client({
		service: "javascript",
		retry: { firstMs: retryWaitMs, maxMs: retryWaitMs },
		spool: process.env.LOGWEIR_SPOOL_DIR,
		onNotice: () => {},
		...options,
	});
}

export function emitNumbered(client, number, message) {
	client.emitRecord({ level: 3, message, timeUnixNano: firstTimeUnixNano + BigInt(number) });
}

// Lets the client send.
export function turn() {
	return new Promise((resolve) => setImmediate(resolve));
}
