/** Those who wait for a flush or the end. */

import type { FlushReport } from "../../report.js";
import type { Queue } from "../queue.js";
import type { Progress } from "../shared.js";
import type { Outstanding } from "./track.js";

/** A call of flush or shutdown. */
export class Waiter {
	/** It waits for the logs before this position of the queue. */
	readonly position: number;
	deadline: number;
	/** Whether the client ends with it. */
	readonly closes: boolean;
	/** It waits for the batches with tags below this; none while one of its logs is still in the queue. */
	mark: number | undefined;
	/** The account was sent after its logs, or the server knew it. */
	isAccountTold = false;
	reply: (report: FlushReport) => void = () => {};

	constructor(position: number, deadline: number, closes: boolean) {
		this.position = position;
		this.deadline = deadline;
		this.closes = closes;
	}

	isOver(outstanding: Outstanding): boolean {
		return this.isAccountTold && this.mark !== undefined && outstanding.isCompleteBelow(this.mark);
	}
}

/**
 * Each waits until its logs are done with, then until the server knows the account, but not beyond its
 * deadline. `tellAccount` sends the account, if it is news to the server.
 */
export class Waiters {
	readonly #queue: Queue;
	readonly #outstanding: Outstanding;
	readonly #progress: Progress;
	readonly #tellAccount: () => void;
	#waiting: Waiter[] = [];

	constructor(queue: Queue, outstanding: Outstanding, progress: Progress, tellAccount: () => void) {
		this.#queue = queue;
		this.#outstanding = outstanding;
		this.#progress = progress;
		this.#tellAccount = tellAccount;
	}

	add(waiter: Waiter): void {
		this.#waiting.push(waiter);
	}

	/** Replies to those whose logs are done with, or whose time is up. A shutdown is left to the end. */
	reply(now: number): void {
		for (const waiter of this.#waiting) {
			this.#advance(waiter);
		}
		const waiting = this.#waiting;
		this.#waiting = [];
		for (const waiter of waiting) {
			if (!waiter.closes && this.#isOver(waiter, now)) {
				waiter.reply(this.#report(waiter));
			} else {
				this.#waiting.push(waiter);
			}
		}
	}

	/** Whether a shutdown has done what it could. */
	isShutdownOver(now: number): boolean {
		return this.#waiting.some((waiter) => waiter.closes && this.#isOver(waiter, now));
	}

	/** Gives all who wait the last report. */
	replyToAll(): void {
		const waiting = this.#waiting;
		this.#waiting = [];
		for (const waiter of waiting) {
			waiter.reply(this.finalReport());
		}
	}

	/** What became of all logs, once the client has ended. */
	finalReport(): FlushReport {
		const { sent, rejected } = this.#progress;
		const { dropped } = this.#queue;
		return { sent, rejected, dropped, spooled: this.#outstanding.spooled, pending: 0 };
	}

	#isOver(waiter: Waiter, now: number): boolean {
		return waiter.deadline <= now || waiter.isOver(this.#outstanding);
	}

	/** First the logs, then the account, if the server does not know it as it is now. */
	#advance(waiter: Waiter): void {
		const { oldest } = this.#queue;
		if (oldest === undefined || oldest.position >= waiter.position) {
			waiter.mark ??= this.#outstanding.mark;
		}
		const { mark } = waiter;
		if (mark === undefined || waiter.isAccountTold || !this.#outstanding.isCompleteBelow(mark)) {
			return;
		}
		// Set before the account is sent: the batch that carries it must not make the waiter send another.
		waiter.isAccountTold = true;
		this.#tellAccount();
		// Also when another waiter's account is under way.
		waiter.mark = this.#outstanding.mark;
	}

	#report(waiter: Waiter): FlushReport {
		const mark = waiter.mark ?? this.#outstanding.mark;
		const { inMemory, spooled } = this.#outstanding.recordsBelow(mark);
		const { sent, rejected } = this.#progress;
		const pending = inMemory + this.#queue.lengthBefore(waiter.position);
		return { sent, rejected, dropped: this.#queue.dropped, spooled, pending };
	}
}
