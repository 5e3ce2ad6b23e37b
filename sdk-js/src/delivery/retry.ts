/**
 * What to do on each answer, and when the next attempt may start. Pure: the time and randomness are
 * arguments. Times are milliseconds of a clock that never jumps.
 *
 * A resend is harmless, since the server stores a batch id once, so that ambiguous outcomes are
 * retried. Each endpoint has its own pause, so that the others go on; what concerns the token or its
 * quota pauses all. After `probeAfter` failures in a row one batch at a time probes.
 */

import { Code } from "@connectrpc/connect";
import type { DropReason } from "./errors.js";

/** How long to wait before trying again, milliseconds, and how often. */
export interface RetryPolicy {
	/** Bound of the first wait; doubles with each failure in a row. 200. */
	firstMs: number;
	/** Bound of any wait that the server did not ask for. 30,000. */
	maxMs: number;
	/** Longest wait that a server may ask for. 300,000. */
	serverDelayMaxMs: number;
	/** Failures in a row after which one batch at a time is tried. 5. */
	probeAfter: number;
	/** Retries after INTERNAL, UNKNOWN and OUT_OF_RANGE. 3. */
	internalRetries: number;
	/** First wait between probes of a refused token; doubles. 1,000. */
	tokenFirstMs: number;
	/** Longest wait between probes of a refused token. 60,000. */
	tokenMaxMs: number;
	/** How long to wait once for a permission to come through. 60,000. */
	permissionWaitMs: number;
	/** How long to send nothing after a permission was refused twice. 300,000. */
	permissionPauseMs: number;
}

export const retryPolicyDefault: RetryPolicy = {
	firstMs: 200,
	maxMs: 30_000,
	serverDelayMaxMs: 300_000,
	probeAfter: 5,
	internalRetries: 3,
	tokenFirstMs: 1_000,
	tokenMaxMs: 60_000,
	permissionWaitMs: 60_000,
	permissionPauseMs: 300_000,
};

/** An answer other than OK, or none at all. */
export interface Refusal {
	code: Code;
	/** The connection failed, rather than the server answered. */
	isTransport: boolean;
	/** No Logweir server answers so. */
	isForeign: boolean;
	/** From `google.rpc.RetryInfo`. */
	retryDelayMs?: number | undefined;
	/** From `google.rpc.ErrorInfo`. */
	reason: string;
	/** Positions named by `google.rpc.BadRequest`. */
	badRecords: number[];
	message: string;
}

/** What an answer means for the batch. */
type Verdict =
	/** Try again; this endpoint pauses. */
	| "retry"
	/** Try again after what the server asked for; all pause. */
	| "throttled"
	/** Try again, but not for ever. */
	| "retry_a_few_times"
	| "unauthenticated"
	| "forbidden"
	| "too_large"
	/** Never send it again. */
	| { giveUp: DropReason };

/** The `ErrorInfo` reason of a batch that is too large. */
const batchTooLarge = "BATCH_TOO_LARGE";
/** The `ErrorInfo` reason of a batch that is too old to be told from a repeat. */
const expired = "EXPIRED";

/** The table of answers. */
function verdict(refusal: Refusal): Verdict {
	if (refusal.isTransport) {
		return "retry";
	}
	if (refusal.reason.toUpperCase() === expired) {
		return { giveUp: "expired" };
	}
	switch (refusal.code) {
		case Code.ResourceExhausted:
			return exhausted(refusal);
		case Code.Unavailable:
		case Code.DeadlineExceeded:
		case Code.Canceled:
		case Code.Aborted:
		case Code.DataLoss:
			return "retry";
		// OUT_OF_RANGE is also what a message over the size limit of a gRPC library itself gets.
		case Code.Internal:
		case Code.Unknown:
		case Code.OutOfRange:
			return "retry_a_few_times";
		case Code.Unauthenticated:
			return "unauthenticated";
		case Code.PermissionDenied:
			return "forbidden";
		default:
			return { giveUp: "send_error" };
	}
}

function exhausted(refusal: Refusal): Verdict {
	if (refusal.retryDelayMs !== undefined) {
		return "throttled";
	}
	return refusal.reason === batchTooLarge ? "too_large" : { giveUp: "send_error" };
}

/** The bound of a wait: doubles with each failure, up to a cap. */
function bound(firstMs: number, maxMs: number, failures: number): number {
	return Math.min(firstMs * 2 ** Math.max(0, failures - 1), maxMs);
}

/** Whether an attempt may start, and if not, until when; undefined: until another has ended. */
type Blocked = { until: number | undefined };

/** When something that fails may be tried again. */
class Pace {
	failures = 0;
	/** Rises with each failure, so that attempts that ran side by side count as one. */
	epoch = 0;
	probing = false;
	#notBefore = Number.NEGATIVE_INFINITY;

	blocked(now: number, probeAfter: number): Blocked | undefined {
		if (this.#notBefore > now) {
			return { until: this.#notBefore };
		}
		return this.failures >= probeAfter && this.probing ? { until: undefined } : undefined;
	}

	pause(until: number): void {
		this.#notBefore = Math.max(this.#notBefore, until);
	}

	/** Counts a failure, unless one that ran beside it was counted. True if it was counted. */
	fail(epoch: number): boolean {
		if (epoch !== this.epoch) {
			return false;
		}
		this.failures += 1;
		this.epoch += 1;
		return true;
	}

	succeed(): void {
		this.failures = 0;
	}
}

/** Leave to make one attempt. Must come back through [Gate.finish]. */
export interface Ticket {
	/** Which endpoint. */
	readonly door: number;
	readonly doorEpoch: number;
	readonly accountEpoch: number;
	/** Which reading of the token. */
	readonly tokenReading: number;
	readonly probesDoor: boolean;
	readonly probesAccount: boolean;
}

/** Leave, or when to ask again: then (never if undefined), or when an attempt has ended. */
export type Start = { ticket: Ticket } | { ticket: undefined; until: number | undefined };

/** What a refused attempt leads to. */
export type Next = "again" | "read_token" | "split" | { giveUp: DropReason };

/** What one batch has behind it. */
export interface History {
	internalFailures: number;
}

/** Decides who may try when. Shared by all batches of a client. */
export class Gate {
	readonly #policy: RetryPolicy;
	readonly #doors: Pace[];
	readonly #account = new Pace();
	#nextDoor = 0;
	#tokenReading = 0;
	#tokenFailures = 0;
	#permissionFailures = 0;

	constructor(policy: RetryPolicy, doors: number) {
		this.#policy = policy;
		this.#doors = Array.from({ length: doors }, () => new Pace());
	}

	/** Gives leave to try the next endpoint in turn that is not paused. */
	start(now: number): Start {
		const account = this.#account.blocked(now, 1);
		if (account !== undefined) {
			return { ticket: undefined, until: account.until };
		}
		const count = this.#doors.length;
		let earliest: number | undefined;
		for (let offset = 0; offset < count; offset += 1) {
			const door = (this.#nextDoor + offset) % count;
			const blocked = this.#door(door).blocked(now, this.#policy.probeAfter);
			if (blocked === undefined) {
				return { ticket: this.#ticket(door) };
			}
			if (blocked.until !== undefined) {
				earliest = Math.min(earliest ?? Number.POSITIVE_INFINITY, blocked.until);
			}
		}
		return { ticket: undefined, until: earliest };
	}

	/** The attempt is over, whatever came of it, even if it was abandoned. */
	finish(ticket: Ticket): void {
		if (ticket.probesDoor) {
			this.#door(ticket.door).probing = false;
		}
		if (ticket.probesAccount) {
			this.#account.probing = false;
		}
	}

	/** The attempt was answered OK. */
	succeeded(ticket: Ticket): void {
		this.#door(ticket.door).succeed();
		this.#account.succeed();
		this.#tokenFailures = 0;
		this.#permissionFailures = 0;
	}

	/** Whether batches are held because the token is refused. */
	get isTokenRefused(): boolean {
		return this.#tokenFailures > 1 || this.#permissionFailures > 0;
	}

	/** The attempt was refused. `random` is a share, 0 up to 1. */
	refused(ticket: Ticket, refusal: Refusal, history: History, now: number, random: number): Next {
		const answer = verdict(refusal);
		switch (answer) {
			case "retry":
				return this.#pauseDoor(ticket, refusal.retryDelayMs, now, random);
			case "retry_a_few_times":
				return this.#retryAFewTimes(ticket, refusal, history, now, random);
			case "throttled":
				return this.#throttled(ticket, refusal.retryDelayMs ?? 0, now, random);
			case "unauthenticated":
				return this.#unauthenticated(ticket, now, random);
			case "forbidden":
				return this.#forbidden(ticket, now);
			case "too_large":
				return this.#answered(ticket, "split");
			default:
				return this.#answered(ticket, answer);
		}
	}

	#door(index: number): Pace {
		return this.#doors[index] as Pace;
	}

	#ticket(door: number): Ticket {
		this.#nextDoor = (door + 1) % this.#doors.length;
		const pace = this.#door(door);
		const probesDoor = pace.failures >= this.#policy.probeAfter;
		const probesAccount = this.#account.failures > 0;
		pace.probing ||= probesDoor;
		this.#account.probing ||= probesAccount;
		return {
			door,
			doorEpoch: pace.epoch,
			accountEpoch: this.#account.epoch,
			tokenReading: this.#tokenReading,
			probesDoor,
			probesAccount,
		};
	}

	/** A refusal for good comes from a server that works. */
	#answered(ticket: Ticket, next: Next): Next {
		this.#door(ticket.door).succeed();
		return next;
	}

	#retryAFewTimes(
		ticket: Ticket,
		refusal: Refusal,
		history: History,
		now: number,
		random: number,
	): Next {
		history.internalFailures += 1;
		if (history.internalFailures > this.#policy.internalRetries) {
			return { giveUp: "send_error" };
		}
		return this.#pauseDoor(ticket, refusal.retryDelayMs, now, random);
	}

	#throttled(ticket: Ticket, askedMs: number, now: number, random: number): Next {
		this.#door(ticket.door).succeed();
		this.#account.fail(ticket.accountEpoch);
		this.#account.pause(now + this.#serverDelay(askedMs, random));
		return "again";
	}

	#pauseDoor(ticket: Ticket, askedMs: number | undefined, now: number, random: number): Next {
		const { firstMs, maxMs } = this.#policy;
		const pace = this.#door(ticket.door);
		const isCounted = pace.fail(ticket.doorEpoch);
		if (askedMs !== undefined) {
			pace.pause(now + this.#serverDelay(askedMs, random));
		} else if (isCounted) {
			// A random share of the bound, so that a fleet does not come back in one moment.
			pace.pause(now + bound(firstMs, maxMs, pace.failures) * random);
		}
		return "again";
	}

	/** Never less than the server asked for, unless that is absurd; spread by a quarter. */
	#serverDelay(askedMs: number, random: number): number {
		return Math.min(askedMs, this.#policy.serverDelayMaxMs) * (1 + 0.25 * random);
	}

	#unauthenticated(ticket: Ticket, now: number, random: number): Next {
		this.#door(ticket.door).succeed();
		if (ticket.tokenReading !== this.#tokenReading) {
			return "again";
		}
		this.#tokenReading += 1;
		this.#tokenFailures += 1;
		if (this.#tokenFailures > 1) {
			const { tokenFirstMs, tokenMaxMs } = this.#policy;
			const waitMs = bound(tokenFirstMs, tokenMaxMs, this.#tokenFailures - 1);
			this.#account.fail(ticket.accountEpoch);
			this.#account.pause(now + waitMs * (0.75 + 0.25 * random));
		}
		return "read_token";
	}

	#forbidden(ticket: Ticket, now: number): Next {
		this.#door(ticket.door).succeed();
		if (!this.#account.fail(ticket.accountEpoch)) {
			return "again";
		}
		this.#permissionFailures += 1;
		if (this.#permissionFailures === 1) {
			this.#account.pause(now + this.#policy.permissionWaitMs);
			return "again";
		}
		this.#account.pause(now + this.#policy.permissionPauseMs);
		return { giveUp: "auth_failed" };
	}
}
