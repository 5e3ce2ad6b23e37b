// Waiting for what must come, with a limit that only a fault reaches.
import assert from "node:assert/strict";

export const patienceMs = 120_000;

// Waits until a condition holds; the event loop turns in between.
export async function until(condition, what) {
	const deadline = Date.now() + patienceMs;
	while (!condition()) {
		assert.ok(Date.now() < deadline, `it never came: ${what}`);
		await new Promise((resolve) => setImmediate(resolve));
	}
}
