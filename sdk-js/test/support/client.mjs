// A client that waits for nothing longer than a test should take.
import { Client } from "../../dist/esm/index.js";

export const quickRetry = {
	firstMs: 1,
	maxMs: 1,
	serverDelayMaxMs: 1,
	tokenFirstMs: 1,
	tokenMaxMs: 1,
	permissionWaitMs: 1,
	permissionPauseMs: 1,
};

const hourMs = 3_600_000;

export function testClient(options) {
	const notices = [];
	const client = new Client({
		service: "test",
		compression: "none",
		batchDelayMs: hourMs,
		retry: quickRetry,
		onNotice: (text) => notices.push(text),
		...options,
	});
	return Object.assign(client, { notices });
}
