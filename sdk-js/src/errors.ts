/** What can go wrong, for the one call that may fail, and why logs are given up. */

/**
 * A setting in the code that cannot be used, thrown when a client is made. After that nothing throws
 * any more: what goes wrong is retried or counted. Never worth a retry unchanged.
 */
export class ConfigError extends Error {
	override readonly name = "ConfigError";
	/** The setting at fault, by its name in the options. */
	readonly setting: string;

	constructor(setting: string, message: string, options?: { cause?: unknown }) {
		super(message, options);
		this.setting = setting;
	}
}

/** Why logs were given up, by the names of the wire contract. */
export const dropReasons = [
	/** The queue in memory was full. */
	"queue_overflow",
	/** The spool on disk was full. */
	"cache_overflow",
	/** A single log that the server finds too large. */
	"too_large",
	/** The queue was full while the token was refused, or the token does not reach that far. */
	"auth_failed",
	/** Waited longer than allowed, or the server no longer takes it. */
	"expired",
	/** The server refused it for good. */
	"send_error",
	/** Not in the share of its level that is kept. */
	"sample_rate",
	/** The program's own `beforeSend` wanted it so, or threw. */
	"before_send",
	/** Still unsent at the end. */
	"shutdown_timeout",
	/** A fault of this library or of the disk under its spool. */
	"internal_sdk_error",
] as const;

export type DropReason = (typeof dropReasons)[number];

/** How many logs were given up, by reason; reasons that did not occur are absent. */
export type DropCounts = { [reason in DropReason]?: number };

/** Counts as a person reads them: `queue_overflow 3, expired 1`. */
export function dropCountsText(counts: DropCounts): string {
	const named = dropReasons.filter((reason) => counts[reason] !== undefined);
	return named.map((reason) => `${reason} ${counts[reason]}`).join(", ");
}

/** The text of whatever was thrown. */
export function errorText(error: unknown): string {
	try {
		return error instanceof Error ? error.message || error.name : String(error);
	} catch {
		return "unknown error";
	}
}
