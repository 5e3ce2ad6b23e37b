/** Those who wait for a flush or the end. */

import type { DropCounts } from "../errors.js";
import type { Outstanding } from "./track.js";

/** What became of logs, by a flush. */
export interface FlushReport {
	/** Logs that the server has for good, since the start. */
	readonly sent: number;
	/** Logs that the server rejected, since the start. */
	readonly rejected: number;
	/** Logs given up, by reason, since the start. */
	readonly dropped: DropCounts;
	/** Logs handed over before the call that are in the spool, and not answered. */
	readonly spooled: number;
	/** Logs handed over before the call whose fate is open. */
	readonly pending: number;
}

/** A call of flush or shutdown. */
export class Waiter {
	/** Logs before this position of the queue are meant. */
	readonly position: number;
	deadline: number;
	/** Whether the client ends with it. */
	readonly closes: boolean;
	/** Batches below this mark are meant; none until the last log meant is in a batch. */
	mark: number | undefined;
	/** The server knows, or was told, the account. */
	isAccountTold = false;
	answer: (report: FlushReport) => void = () => {};

	constructor(position: number, deadline: number, closes: boolean) {
		this.position = position;
		this.deadline = deadline;
		this.closes = closes;
	}

	isOver(outstanding: Outstanding): boolean {
		return this.isAccountTold && this.mark !== undefined && outstanding.isSettledBelow(this.mark);
	}
}
