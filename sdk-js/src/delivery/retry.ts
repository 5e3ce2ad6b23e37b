/**
 * What to do on each response, and when the next attempt may start. Pure: the time and randomness are
 * arguments. Times are milliseconds of a clock that never jumps.
 *
 * A resend is harmless, since the server stores a batch id once, so that ambiguous outcomes are
 * retried. Each endpoint has its own pause, so that the others go on; what concerns the token or its
 * quota pauses all. After `probeAfter` failures in a row one batch at a time probes.
 */

import { Code } from "@connectrpc/connect";
import type { DropReason } from "../errors.js";

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

/** A response other than OK, or none at all. */
export interface Refusal {
	code: Code;
	/** The connection failed, rather than that the server responded. */
	isTransport: boolean;
	/** No Logweir server responds so. */
	isForeign: boolean;
	/** From `google.rpc.RetryInfo`. */
	retryDelayMs?: number | undefined;
	/** From `google.rpc.ErrorInfo`. */
	reason: string;
	/** Positions named by `google.rpc.BadRequest`. */
	badRecords: number[];
	message: string;
}

/** What a response means for the batch. */
type Decision =
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
/** The `ErrorInfo` reason of one whose tenant has its share of what that server has. */
const tenantShare = "TENANT_SHARE";
/** The `ErrorInfo` reason of a batch that is too old to be told from a repeat. */
const expired = "EXPIRED";

/** The table of responses. */
function decision(refusal: Refusal): Decision {
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

function exhausted(refusal: Refusal): Decision {
	if (refusal.retryDelayMs !== undefined) {
		// A share is of one server: another may have room.
		return refusal.reason === tenantShare ? "retry" : "throttled";
	}
	return refusal.reason === batchTooLarge ? "too_large" : { giveUp: "send_error" };
}

/** The bound of a wait: doubles with each failure, up to a cap. */
function bound(firstMs: number, maxMs: number, failures: number): number {
	// The exponent may grow for ever: the result is at most infinite, and then the cap.
	return Math.min(firstMs * 2 ** Math.max(0, failures - 1), maxMs);
}

/** Whether an attempt may start, and if not, until when; undefined: until another has ended. */
type Blocked = { until: number | undefined };

/** When something that fails may be tried again. */
class Backoff {
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
		// Several attempts may fail side by side; the longest pause counts.
		this.#notBefore = Math.max(this.#notBefore, until);
	}

	/** Counts a failure, unless one that ran beside it was counted. True if it was counted. */
	fail(epoch: number): boolean {
		// It began before a failure that was counted: both saw the same outage.
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

/** Permission to make one attempt. Must come back through [EndpointPool.finish]. */
export interface Ticket {
	/** Which endpoint. */
	readonly endpoint: number;
	readonly endpointEpoch: number;
	readonly accountEpoch: number;
	/** Which reading of the token. */
	readonly tokenReading: number;
	readonly probesEndpoint: boolean;
	readonly probesAccount: boolean;
}

/** Permission, or when to ask again: then (never if undefined), or when an attempt has ended. */
export type Start = { ticket: Ticket } | { ticket: undefined; until: number | undefined };

/** What a refused attempt leads to. */
export type Next = "again" | "read_token" | "split" | { giveUp: DropReason };

/** The failures of one batch that count against it. */
export interface History {
	internalFailures: number;
}

/** Decides who may try when. Shared by all batches of a client. */
export class EndpointPool {
	readonly #policy: RetryPolicy;
	readonly #endpoints: Backoff[];
	readonly #account = new Backoff();
	#nextEndpoint = 0;
	#tokenReading = 0;
	#tokenFailures = 0;
	#permissionFailures = 0;

	constructor(policy: RetryPolicy, endpoints: number) {
		this.#policy = policy;
		this.#endpoints = Array.from({ length: endpoints }, () => new Backoff());
	}

	/** Gives permission to try the next endpoint in turn that is not paused. */
	start(now: number): Start {
		// One refusal of the token or its quota is enough to send one batch at a time.
		const account = this.#account.blocked(now, 1);
		if (account !== undefined) {
			return { ticket: undefined, until: account.until };
		}
		const count = this.#endpoints.length;
		let earliest: number | undefined;
		for (let offset = 0; offset < count; offset += 1) {
			// In turn, so that load is spread, and a paused one is passed over.
			const endpoint = (this.#nextEndpoint + offset) % count;
			const blocked = this.#endpoint(endpoint).blocked(now, this.#policy.probeAfter);
			if (blocked === undefined) {
				return { ticket: this.#ticket(endpoint) };
			}
			if (blocked.until !== undefined) {
				earliest = Math.min(earliest ?? Number.POSITIVE_INFINITY, blocked.until);
			}
		}
		return { ticket: undefined, until: earliest };
	}

	/** The attempt is over, whatever came of it, even if it was abandoned. */
	finish(ticket: Ticket): void {
		if (ticket.probesEndpoint) {
			this.#endpoint(ticket.endpoint).probing = false;
		}
		if (ticket.probesAccount) {
			this.#account.probing = false;
		}
	}

	/** The response was OK. */
	succeeded(ticket: Ticket): void {
		this.#endpoint(ticket.endpoint).succeed();
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
		const next = decision(refusal);
		switch (next) {
			case "retry":
				return this.#pauseEndpoint(ticket, refusal.retryDelayMs, now, random);
			case "retry_a_few_times":
				return this.#retryAFewTimes(ticket, refusal, history, now, random);
			case "throttled":
				return this.#throttled(ticket, refusal.retryDelayMs ?? 0, now, random);
			case "unauthenticated":
				return this.#unauthenticated(ticket, now, random);
			case "forbidden":
				return this.#forbidden(ticket, now);
			case "too_large":
				return this.#finalRefusal(ticket, "split");
			default:
				return this.#finalRefusal(ticket, next);
		}
	}

	#endpoint(index: number): Backoff {
		return this.#endpoints[index] as Backoff;
	}

	#ticket(endpoint: number): Ticket {
		// Even if the attempt fails: the next batch tries another server.
		this.#nextEndpoint = (endpoint + 1) % this.#endpoints.length;
		const backoff = this.#endpoint(endpoint);
		const probesEndpoint = backoff.failures >= this.#policy.probeAfter;
		const probesAccount = this.#account.failures > 0;
		backoff.probing ||= probesEndpoint;
		this.#account.probing ||= probesAccount;
		return {
			endpoint,
			endpointEpoch: backoff.epoch,
			accountEpoch: this.#account.epoch,
			tokenReading: this.#tokenReading,
			probesEndpoint,
			probesAccount,
		};
	}

	/** A refusal for good comes from a server that works. */
	#finalRefusal(ticket: Ticket, next: Next): Next {
		this.#endpoint(ticket.endpoint).succeed();
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
		return this.#pauseEndpoint(ticket, refusal.retryDelayMs, now, random);
	}

	#throttled(ticket: Ticket, askedMs: number, now: number, random: number): Next {
		this.#endpoint(ticket.endpoint).succeed();
		// The quota is the token's, whichever server says so; this server itself works.
		this.#account.fail(ticket.accountEpoch);
		this.#account.pause(now + this.#serverDelay(askedMs, random));
		return "again";
	}

	#pauseEndpoint(ticket: Ticket, askedMs: number | undefined, now: number, random: number): Next {
		const { firstMs, maxMs } = this.#policy;
		const backoff = this.#endpoint(ticket.endpoint);
		const isCounted = backoff.fail(ticket.endpointEpoch);
		if (askedMs !== undefined) {
			backoff.pause(now + this.#serverDelay(askedMs, random));
		} else if (isCounted) {
			// A random share of the bound, so that a fleet does not come back in one moment.
			backoff.pause(now + bound(firstMs, maxMs, backoff.failures) * random);
		}
		return "again";
	}

	/** Never less than the server asked for, unless that is absurd; spread by a quarter. */
	#serverDelay(askedMs: number, random: number): number {
		return Math.min(askedMs, this.#policy.serverDelayMaxMs) * (1 + 0.25 * random);
	}

	#unauthenticated(ticket: Ticket, now: number, random: number): Next {
		this.#endpoint(ticket.endpoint).succeed();
		// The token was read again meanwhile: the refusal is of the old one.
		if (ticket.tokenReading !== this.#tokenReading) {
			return "again";
		}
		this.#tokenReading += 1;
		this.#tokenFailures += 1;
		// At the first it may have been replaced in its file: read once before anybody is told.
		if (this.#tokenFailures > 1) {
			const { tokenFirstMs, tokenMaxMs } = this.#policy;
			const waitMs = bound(tokenFirstMs, tokenMaxMs, this.#tokenFailures - 1);
			this.#account.fail(ticket.accountEpoch);
			// Spread by a quarter, so that a fleet with one token does not probe in one moment.
			this.#account.pause(now + waitMs * (0.75 + 0.25 * random));
		}
		return "read_token";
	}

	#forbidden(ticket: Ticket, now: number): Next {
		this.#endpoint(ticket.endpoint).succeed();
		if (!this.#account.fail(ticket.accountEpoch)) {
			return "again";
		}
		this.#permissionFailures += 1;
		// A permission that was just given takes a while to reach every server.
		if (this.#permissionFailures === 1) {
			this.#account.pause(now + this.#policy.permissionWaitMs);
			return "again";
		}
		this.#account.pause(now + this.#policy.permissionPauseMs);
		return { giveUp: "auth_failed" };
	}
}
