/**
 * The JavaScript client library of Logweir, for Node.
 *
 * Every batch keeps its id over retries and restarts, so that the server stores it once. Every log that
 * is lost is counted by its reason, here and on the server.
 */

import { BaseClient } from "./client.js";
import { wrapConsole } from "./integrations/console.js";
import type { ClientOptions } from "./options.js";
import { nodePlatform } from "./platform/node.js";

export * from "./exports.js";

/** Sends logs in the background. */
export class Client extends BaseClient {
	/** Throws a `ConfigError` for a setting that cannot be used. The server need not be up. */
	constructor(options: ClientOptions = {}) {
		super(options, nodePlatform);
	}
}

/**
 * Sends what the program writes to the console, and what it dies of. Address and token come from the
 * environment unless they are given.
 */
export function init(service?: string, options: ClientOptions = {}): Client {
	const client = new Client(service === undefined ? options : { ...options, service });
	wrapConsole(client);
	process.on("uncaughtExceptionMonitor", (error: unknown, origin) => {
		client.fatal(error, { "exception.origin": origin });
	});
	return client;
}
