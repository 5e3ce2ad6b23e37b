/** The JavaScript client library of Logweir, for browsers. */

import { BaseClient } from "./client.js";
import { wrapConsole } from "./integrations/console.js";
import type { ClientOptions } from "./options.js";
import { browserPlatform, keepaliveBytesMax } from "./platform/browser.js";

export * from "./exports.js";

/** Leaves room for ids, account and resource in a request that may outlive its page. */
const batchBytesMax = keepaliveBytesMax - (8 << 10);

/** Sends logs in the background. */
export class Client extends BaseClient {
	/** Throws a `ConfigError` for a setting that cannot be used. The server need not be up. */
	constructor(options: ClientOptions = {}) {
		const batchBytes = Math.min(options.batchBytes ?? batchBytesMax, batchBytesMax);
		super({ ...options, batchBytes }, browserPlatform);
	}
}

/** Sends what the page writes to the console, and errors that nobody caught. */
export function init(service?: string, options: ClientOptions = {}): Client {
	const client = new Client(service === undefined ? options : { ...options, service });
	wrapConsole(client);
	globalThis.addEventListener?.("error", (event) => {
		client.error(event.error ?? event.message, { "exception.origin": "error" });
	});
	globalThis.addEventListener?.("unhandledrejection", (event) => {
		client.error(event.reason, { "exception.origin": "unhandledrejection" });
	});
	return client;
}
