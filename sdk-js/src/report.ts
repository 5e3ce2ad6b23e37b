/** What became of a program's logs: [Stats] since the start, [FlushReport] of one flush. */

import type { DropCounts } from "./errors.js";

/** Counts since the start. When idle, `emitted = sent + rejected + dropped + spooled`. */
export interface Stats {
	/** Logs handed over. */
	readonly emitted: number;
	/** Logs that the server has for good. */
	readonly sent: number;
	/** Logs that the server rejected. */
	readonly rejected: number;
	/** Logs given up, by reason. */
	readonly dropped: DropCounts;
	/** Logs waiting in memory for a batch. */
	readonly queued: number;
	/** Logs in batches that are under way. */
	readonly inFlight: number;
	/** Logs in batches in the spool that the server has not responded to. */
	readonly spooled: number;
	/** Logs of dead processes, taken over and still to be sent. */
	readonly adoptedWaiting: number;
	/** Logs of dead processes that the server has for good. */
	readonly adoptedSent: number;
	/** Logs of dead processes that were refused or too old. */
	readonly adoptedDropped: number;
	/** Times that the spool could not be written or read. */
	readonly spoolFailures: number;
	/** Damaged places found in the spool. */
	readonly spoolDamaged: number;
	/** Logs handed over after `shutdown`; they are in no other count. */
	readonly emittedAfterShutdown: number;
}

/** What became of logs, by a flush. */
export interface FlushReport {
	/** Logs that the server has for good, since the start. */
	readonly sent: number;
	/** Logs that the server rejected, since the start. */
	readonly rejected: number;
	/** Logs given up, by reason, since the start. */
	readonly dropped: DropCounts;
	/** Logs handed over before the call that are in the spool, without a response so far. */
	readonly spooled: number;
	/** Logs handed over before the call whose fate is open. */
	readonly pending: number;
}
