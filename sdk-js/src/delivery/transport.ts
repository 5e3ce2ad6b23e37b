/**
 * The way to the server: one connection per address, retries by the policy of [RetryPolicy]. It holds
 * no queue: a send ends when the batch is durable, refused for good, or out of time.
 */

import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Token } from "../config.js";
import { type DropReason, errorText } from "../errors.js";
import { IngestResponseSchema, type RejectedRecord } from "../generated/logweir/v1/ingest_pb.js";
import type { Channel, ChannelOptions, Platform } from "../platform.js";
import { sdkName, sdkVersion } from "../version.js";
import type { EncodedBatch } from "./batch.js";
import { NoticeLimiter } from "./notices.js";
import { causeText, toRefusal } from "./refusal.js";
import {
	EndpointPool,
	type History,
	type Next,
	type Refusal,
	type RetryPolicy,
	type Ticket,
} from "./retry.js";

/** A refused token is told at most this often, milliseconds. */
const tokenNoticeIntervalMs = 300_000;
/** An address that has not been reached after so long is told, milliseconds. */
const reachableTimeoutMs = 1_500;
/** Before the server cuts off, so that both ends see the same. */
const timeoutHeader = "grpc-timeout";

/** What became of a batch. */
export type SendOutcome =
	/** It is durable, but for the logs named. */
	| { kind: "accepted"; rejected: RejectedRecord[] }
	/** It must be split, each part under a new id. */
	| { kind: "too_large" }
	/** It was refused for good; never resend it unchanged. The notice is for a person. */
	| { kind: "refused"; reason: DropReason; badRecords: number[]; notice: string }
	/** The deadline passed. It may be durable or not. */
	| { kind: "out_of_time" };

export interface SenderOptions {
	addresses: readonly string[];
	token: Token;
	channel: ChannelOptions;
	attemptTimeoutMs: number;
	retry: RetryPolicy;
	/** What a person should know. */
	notice: (text: string) => void;
	/** Where logs wait now, if an address cannot be reached. */
	waitingPlace: () => string;
}

interface Endpoint {
	address: string;
	channel: Channel;
	/** Since when it cannot be reached; undefined while it can. */
	unreachableSince: number | undefined;
}

export class Sender {
	readonly #platform: Platform;
	readonly #options: SenderOptions;
	readonly #endpoints: Endpoint[];
	readonly #pool: EndpointPool;
	readonly #closing = new AbortController();
	/** Called when an attempt has ended, or the pool moved. */
	#moved = new Set<() => void>();
	/** None while it is read. */
	#header: Promise<string | undefined> | undefined;
	/** As it was read last. */
	#lastHeader: string | undefined;
	readonly #notices = new NoticeLimiter();
	#tokenNotifiedAt = Number.NEGATIVE_INFINITY;
	#isOpening = false;

	constructor(platform: Platform, options: SenderOptions) {
		this.#platform = platform;
		this.#options = options;
		this.#endpoints = options.addresses.map((address) => ({
			address,
			channel: platform.openChannel(address, options.channel),
			unreachableSince: undefined,
		}));
		this.#pool = new EndpointPool(options.retry, this.#endpoints.length);
	}

	/** Whether batches are held because the token is refused. */
	get isTokenRefused(): boolean {
		return this.#pool.isTokenRefused;
	}

	/** Opens the connections, once, so that a person hears soon of an address that is wrong. */
	open(): void {
		if (this.#isOpening) {
			return;
		}
		this.#isOpening = true;
		for (const endpoint of this.#endpoints) {
			const { later, clear } = this.#platform;
			const timer = later(reachableTimeoutMs, () => this.#setUnreachable(endpoint, "no answer"));
			void endpoint.channel.open().then((cause) => {
				clear(timer);
				// The end of the client closes its connections, which is no news.
				if (this.#closing.signal.aborted) {
					return;
				}
				if (cause === undefined) {
					this.#setReachable(endpoint);
				} else {
					this.#setUnreachable(endpoint, causeText(cause));
				}
			});
		}
	}

	/** Sends a batch and tries again, byte for byte, until its response is final or out of time. */
	async send(batch: EncodedBatch, deadline: number): Promise<SendOutcome> {
		// It counts for this batch alone, and over all servers.
		const history: History = { internalFailures: 0 };
		for (;;) {
			const ticket = await this.#acquire(deadline);
			if (ticket === undefined) {
				return { kind: "out_of_time" };
			}
			const outcome = await this.#attempt(ticket, batch, deadline, history);
			if (outcome !== undefined) {
				return outcome;
			}
		}
	}

	/** Gives up what is under way. */
	close(): void {
		this.#closing.abort();
		this.#announceMove();
		for (const { channel } of this.#endpoints) {
			channel.close();
		}
	}

	/** Waits for permission to make an attempt; none when the deadline has passed. */
	async #acquire(deadline: number): Promise<Ticket | undefined> {
		for (;;) {
			const now = this.#platform.now();
			if (now >= deadline || this.#closing.signal.aborted) {
				return undefined;
			}
			const start = this.#pool.start(now);
			if (start.ticket !== undefined) {
				return start.ticket;
			}
			// Whichever comes first, the pool is asked again.
			await this.#moveOr(Math.min(start.until ?? Number.POSITIVE_INFINITY, deadline) - now);
		}
	}

	/** Waits until an attempt has ended, or for so long. */
	#moveOr(milliseconds: number): Promise<void> {
		return new Promise((resolve) => {
			const { later, clear } = this.#platform;
			const wake = () => {
				clear(timer);
				this.#moved.delete(wake);
				resolve();
			};
			const timer = later(milliseconds, wake);
			this.#moved.add(wake);
		});
	}

	#announceMove(): void {
		const waiting = this.#moved;
		// A new set first: who is woken may wait again at once.
		this.#moved = new Set();
		for (const wake of waiting) {
			wake();
		}
	}

	/** Makes one attempt; undefined if there is to be another. */
	async #attempt(
		ticket: Ticket,
		batch: EncodedBatch,
		deadline: number,
		history: History,
	): Promise<SendOutcome | undefined> {
		const endpoint = this.#endpoints[ticket.endpoint] as Endpoint;
		try {
			const response = await this.#call(endpoint, batch.request, deadline);
			this.#pool.succeeded(ticket);
			this.#setReachable(endpoint);
			return { kind: "accepted", rejected: fromBinary(IngestResponseSchema, response).rejected };
		} catch (thrown) {
			return this.#refused(ticket, endpoint, thrown, history);
		} finally {
			// Also when the attempt was abandoned: an unreturned probe would keep all others waiting.
			this.#pool.finish(ticket);
			this.#announceMove();
		}
	}

	async #call(endpoint: Endpoint, request: Uint8Array, deadline: number): Promise<Uint8Array> {
		const header = await this.#tokenHeader();
		const left = deadline - this.#platform.now();
		// Rounded up to one at least: a timeout of 0 would be none for some servers.
		const timeoutMs = Math.max(1, Math.ceil(Math.min(left, this.#options.attemptTimeoutMs)));
		const headers = {
			"user-agent": `${sdkName}/${sdkVersion}`,
			[timeoutHeader]: `${timeoutMs}m`,
			...(header === undefined ? {} : { authorization: header }),
		};
		return this.#withTimeout(endpoint, timeoutMs, (signal) =>
			endpoint.channel.ingest(request, headers, signal),
		);
	}

	async #withTimeout(
		endpoint: Endpoint,
		timeoutMs: number,
		call: (signal: AbortSignal) => Promise<Uint8Array>,
	): Promise<Uint8Array> {
		const attempt = new AbortController();
		const abandon = () => attempt.abort();
		this.#closing.signal.addEventListener("abort", abandon);
		let isOutOfTime = false;
		const timer = this.#platform.later(timeoutMs, () => {
			isOutOfTime = true;
			// A connection that hangs while it is made would keep all that follow waiting.
			endpoint.channel.reset();
			attempt.abort();
		});
		try {
			return await call(attempt.signal);
		} catch (error) {
			throw isOutOfTime ? new ConnectError("no answer in time", Code.DeadlineExceeded) : error;
		} finally {
			this.#platform.clear(timer);
			this.#closing.signal.removeEventListener("abort", abandon);
		}
	}

	#refused(
		ticket: Ticket,
		endpoint: Endpoint,
		thrown: unknown,
		history: History,
	): SendOutcome | undefined {
		const refusal = toRefusal(thrown);
		if (!this.#closing.signal.aborted) {
			this.#noteReachability(endpoint, refusal, thrown);
		}
		const now = this.#platform.now();
		const random = this.#platform.randomShare();
		const next = this.#pool.refused(ticket, refusal, history, now, random);
		if (next === "read_token") {
			// The next attempt reads the token again.
			this.#header = undefined;
		}
		if (this.#pool.isTokenRefused) {
			this.#notifyTokenRefused(endpoint.address, refusal.message, now);
		}
		return outcomeOf(next, refusal, endpoint.address);
	}

	#noteReachability(endpoint: Endpoint, refusal: Refusal, thrown: unknown): void {
		if (refusal.isTransport) {
			this.#setUnreachable(endpoint, causeText(thrown));
		} else {
			this.#setReachable(endpoint);
		}
	}

	#setUnreachable(endpoint: Endpoint, cause: string): void {
		if (endpoint.unreachableSince !== undefined) {
			return;
		}
		// Until it is back nothing more is told of it.
		endpoint.unreachableSince = this.#platform.now();
		const { notice, waitingPlace } = this.#options;
		notice(
			`cannot reach ${endpoint.address} (${cause}); logs are kept ${waitingPlace()} and sent when it is back`,
		);
	}

	#setReachable(endpoint: Endpoint): void {
		if (endpoint.unreachableSince === undefined) {
			return;
		}
		const seconds = Math.round((this.#platform.now() - endpoint.unreachableSince) / 1_000);
		endpoint.unreachableSince = undefined;
		this.#options.notice(`${endpoint.address} is back after ${seconds} s`);
	}

	#notifyTokenRefused(address: string, message: string, now: number): void {
		if (now - this.#tokenNotifiedAt < tokenNoticeIntervalMs) {
			return;
		}
		// Before the notice: the program's own function may call the client.
		this.#tokenNotifiedAt = now;
		const advice = 'logs are held; give a valid one, made by "logweir token issue"';
		this.#options.notice(`${address} refuses the token (${message}); ${advice}`);
	}

	/** The token as it was read last. One that cannot be read now may be readable when it is refused. */
	#tokenHeader(): Promise<string | undefined> {
		// Attempts side by side share one reading.
		this.#header ??= this.#readToken();
		return this.#header;
	}

	async #readToken(): Promise<string | undefined> {
		try {
			const token = await this.#inTime(this.#options.token.read());
			this.#lastHeader = token === undefined ? undefined : `Bearer ${token}`;
		} catch (error) {
			if (this.#notices.isDue("token", this.#platform.now())) {
				this.#options.notice(`the token cannot be read: ${errorText(error)}`);
			}
		}
		return this.#lastHeader;
	}

	/** A program's function may never come to an end. */
	#inTime<Value>(value: Value | Promise<Value>): Promise<Value> {
		const { attemptTimeoutMs } = this.#options;
		return new Promise((resolve, reject) => {
			const late = () => reject(new Error(`no answer within ${attemptTimeoutMs} ms`));
			const timer = this.#platform.later(attemptTimeoutMs, late);
			Promise.resolve(value)
				.then(resolve, reject)
				.finally(() => this.#platform.clear(timer));
		});
	}
}

function outcomeOf(next: Next, refusal: Refusal, address: string): SendOutcome | undefined {
	if (next === "again" || next === "read_token") {
		return undefined;
	}
	if (next === "split") {
		return { kind: "too_large" };
	}
	const { badRecords, message, isForeign } = refusal;
	const advice = isForeign ? "; is this a Logweir server? check LOGWEIR_ENDPOINT" : "";
	const notice = `${address} refused a batch for good (${message})${advice}`;
	return { kind: "refused", reason: next.giveUp, badRecords, notice };
}
