/**
 * The sending: queue → batch → spool → server, and the account of it all.
 *
 * It takes a turn whenever something happens: a wake by the queue, a call of flush, a response, a moment
 * that was waited for. A turn expires, cuts batches, replies to those who wait, sends. Without a spool a
 * batch is cut only when it can be sent, so that memory holds no more than the queue and the batches
 * under way. With a spool batches are cut as they fill, and those that cannot be sent at once stay on
 * disk alone.
 */

import type { Config } from "../config.js";
import { type DropReason, dropCountsText, errorText } from "../errors.js";
import type { RejectedRecord } from "../generated/logweir/v1/ingest_pb.js";
import type { Platform } from "../platform.js";
import { messageBytesMax } from "../record/record.js";
import type { FlushReport } from "../report.js";
import { type AccountCounts, Batcher, type EncodedBatch, halves, without } from "./batch.js";
import { NoticeLimiter, Rejections } from "./notices.js";
import type { Queue } from "./queue.js";
import { newProgress } from "./shared.js";
import { Sender, type SendOutcome } from "./transport.js";
import { Batches } from "./worker/batches.js";
import { type Outstanding, ownBatch, successor, type Tracked } from "./worker/track.js";
import { Waiter, Waiters } from "./worker/wait.js";

/** No server's limit is taken to be lower: it must take a single log. */
const batchBytesFloor = messageBytesMax;
/** The batch delay is spread by a tenth to either side. */
const delayShareMin = 0.9;
const delayShareSpread = 0.2;
/** The longest a timer can be set for, milliseconds. */
const timerMaxMs = 0x7fff_ffff;
const batchRandomBytes = 10;
const producerIdBytes = 16;
const dropsNotice = "drops";

export class Worker {
	readonly #platform: Platform;
	readonly #config: Config;
	readonly #queue: Queue;
	readonly #sender: Sender;
	readonly #batcher: Batcher;
	readonly progress = newProgress();
	readonly #batches: Batches;
	readonly #waiters: Waiters;
	#batchRecords: number;
	#batchBytes: number;
	/** Logs before this position are not kept waiting for others. */
	#forcedThrough = 0;
	#batchDue: number | undefined;
	readonly #notices = new NoticeLimiter();
	readonly #rejections = new Rejections();
	#isTurnSoon = false;
	#isInTurn = false;
	#timer: unknown;
	#isFinished = false;
	/** Called once the first look for folders of the dead is over. */
	readonly adoption: Promise<void>;

	constructor(platform: Platform, config: Config, queue: Queue) {
		this.#platform = platform;
		this.#config = config;
		this.#queue = queue;
		this.#batchRecords = config.batchRecords;
		this.#batchBytes = config.batchBytes;
		this.#batcher = new Batcher(platform.randomBytes(producerIdBytes), config.resource);
		this.#batches = new Batches(
			platform,
			config,
			queue,
			this.progress,
			(kind, text) => this.#notifyFault(kind, text),
			() => this.wake(),
		);
		this.#waiters = new Waiters(queue, this.outstanding, this.progress, () => this.#tellAccount());
		this.#sender = new Sender(platform, {
			addresses: config.addresses,
			token: config.token,
			channel: { encoding: config.encoding, tls: config.tls },
			attemptTimeoutMs: config.attemptTimeoutMs,
			retry: config.retry,
			notice: config.notice,
			waitingPlace: () => (this.#batches.disk.works ? "in the spool" : "in memory"),
		});
		this.adoption = this.#batches.adopt();
	}

	get outstanding(): Outstanding {
		return this.#batches.outstanding;
	}

	get isTokenRefused(): boolean {
		return this.#sender.isTokenRefused;
	}

	get spoolDamaged(): number {
		return this.#batches.disk.damagedRuns;
	}

	/** Whether nothing is left to send, and the server knows the account. */
	get isIdle(): boolean {
		const { mark } = this.outstanding;
		const isSent = this.#queue.length === 0 && this.outstanding.isCompleteBelow(mark);
		return this.#isFinished || (isSent && !this.#batcher.isNews(this.#account()));
	}

	/** Takes a turn once the running code has come to its end. */
	wake(): void {
		if (this.#isTurnSoon || this.#isFinished) {
			return;
		}
		this.#isTurnSoon = true;
		// At the first log, so that a person hears of a wrong address before the first batch is due.
		this.#sender.open();
		this.#platform.soon(() => {
			this.#isTurnSoon = false;
			this.turn();
		});
	}

	/**
	 * Makes room in a full queue by moving its oldest logs to disk, since a program that does not let go
	 * of the only thread lets nobody else do it.
	 */
	spill(): void {
		if (this.#batches.disk.works && !this.#isInTurn && !this.#isFinished) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
			// A turn sets the timer for forcing it to disk.
			this.wake();
		}
	}

	/** Waits until what was handed over before is done with, or until the deadline. */
	flush(timeoutMs: number): Promise<FlushReport> {
		return this.#wait(timeoutMs, false);
	}

	/** As [flush], then leaves the rest to the spool or drops it. */
	shutdown(timeoutMs: number): Promise<FlushReport> {
		this.#queue.close();
		return this.#wait(timeoutMs, true);
	}

	#wait(timeoutMs: number, closes: boolean): Promise<FlushReport> {
		if (this.#isFinished) {
			return Promise.resolve(this.#waiters.finalReport());
		}
		return new Promise((resolve) => {
			const waiter = new Waiter(this.#queue.nextPosition, this.#platform.now() + timeoutMs, closes);
			// The program waits for this, so it must not end before.
			const timer = this.#platform.laterForSure(Math.min(timeoutMs, timerMaxMs), () => {
				// By its own clock a timer may be a little early.
				waiter.deadline = this.#platform.now();
				this.turn();
			});
			waiter.reply = (report) => {
				this.#platform.clear(timer);
				resolve(report);
			};
			this.#waiters.add(waiter);
			// A flush must not wait for batches to fill.
			this.#forcedThrough = Math.max(this.#forcedThrough, waiter.position);
			this.turn();
		});
	}

	/** Does whatever is to be done now. */
	turn(): void {
		if (this.#isFinished || this.#isInTurn) {
			return;
		}
		this.#isInTurn = true;
		try {
			this.#takeTurn(this.#platform.now());
		} catch (error) {
			this.#notifyFault("turn", `a fault of the library itself: ${errorText(error)}`);
		} finally {
			this.#isInTurn = false;
		}
	}

	#takeTurn(now: number): void {
		// What is too old goes first, so that it is not cut into a batch that is given up at once.
		this.#queue.expire(now - this.#config.memoryAgeMaxMs);
		this.#notifyDrops(now);
		this.#batches.maintainSpool(now);
		// Before batches are cut: this decides which logs no longer wait for others.
		this.#forceWhatIsDue(now);
		this.#cutBatches(now);
		// Before the sends: a waiter may add a batch that carries the account alone.
		this.#waiters.reply(now);
		this.#startSends(now);
		if (this.#waiters.isShutdownOver(now)) {
			this.finish();
		} else {
			this.#planNextTurn(now);
		}
	}

	/** Whatever must not wait for a full batch any longer. */
	#forceWhatIsDue(now: number): void {
		const isDue = this.#batchDue !== undefined && this.#batchDue <= now;
		if (this.#queue.takeUrgent() || isDue) {
			this.#forcedThrough = this.#queue.nextPosition;
			this.#batchDue = undefined;
		}
		const { oldest } = this.#queue;
		if (oldest === undefined) {
			this.#batchDue = undefined;
		} else if (oldest.position >= this.#forcedThrough) {
			const share = delayShareMin + delayShareSpread * this.#platform.randomShare();
			// Kept if it is set: the oldest log decides, and not the newest.
			this.#batchDue ??= now + this.#config.batchDelayMs * share;
		}
	}

	#cutBatches(now: number): void {
		while (this.#batches.mayCut() && this.#hasCauseToCut()) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
			// A batch that can go out at once does not go to disk alone.
			this.#startSends(now);
		}
	}

	#hasCauseToCut(): boolean {
		if (this.#queue.hasABatch) {
			return true;
		}
		const { oldest } = this.#queue;
		return oldest !== undefined && oldest.position < this.#forcedThrough;
	}

	#cutBatch(records: number, bytes: number): void {
		const taken = this.#queue.take(records, bytes);
		// Taken together with the logs, so that it is true of exactly this batch.
		this.#build(taken.records, taken.count, this.#account());
	}

	#build(records: Uint8Array, count: number, account: AccountCounts): void {
		const random = this.#platform.randomBytes(batchRandomBytes);
		const now = this.#platform.nowUnixNano();
		// Numbered as it is made: a number that is given and not used would be a hole for ever.
		const batch = this.#batcher.build(records, count, account, now, random);
		this.#batches.track(ownBatch(batch, this.outstanding.nextTag(), this.#platform.now()));
	}

	#account(): AccountCounts {
		return {
			emitted: this.#queue.emitted,
			dropped: this.#queue.dropped,
			moved: this.#batches.moved,
			rejected: this.progress.rejected,
			queued: this.#queue.length,
			spooled: this.outstanding.spooled,
		};
	}

	#startSends(now: number): void {
		while (this.#batches.hasPlace) {
			const tracked = this.#batches.next();
			if (tracked === undefined) {
				return;
			}
			const batch = this.#batches.read(tracked);
			// The next in line takes the place of one that was lost.
			if (batch !== undefined) {
				this.#startSend(tracked, batch, now);
			}
		}
	}

	#startSend(tracked: Tracked, batch: EncodedBatch, now: number): void {
		const deadline = this.#deadline(tracked, batch, now);
		if (deadline <= now) {
			this.#batches.giveUp(tracked, "expired");
			return;
		}
		this.#batches.inFlight.add(tracked);
		const done = (outcome: SendOutcome) => this.#handleOutcome(tracked, outcome);
		this.#sender.send(batch, deadline).then(done, (error: unknown) => {
			done({
				kind: "refused",
				reason: "internal_sdk_error",
				badRecords: [],
				notice: `a fault of the library itself: ${errorText(error)}`,
			});
		});
	}

	/** When it is given up. Only a dead process's batch is as old as the machine's clock says. */
	#deadline(tracked: Tracked, batch: EncodedBatch, now: number): number {
		const isOnDisk = tracked.frame !== undefined && this.#config.spool !== undefined;
		const ageMaxMs = isOnDisk ? this.#config.spool?.ageMaxMs : undefined;
		const limit = ageMaxMs ?? this.#config.memoryAgeMaxMs;
		if (tracked.cutAt !== undefined) {
			return tracked.cutAt + limit;
		}
		// No clock that never jumps reaches back into a process that is dead.
		const age = Number(this.#platform.nowUnixNano() - batch.createdUnixNano) / 1_000_000;
		return now + limit - Math.max(0, age);
	}

	#handleOutcome(tracked: Tracked, outcome: SendOutcome): void {
		if (!this.#batches.inFlight.delete(tracked)) {
			// The end came first.
			return;
		}
		switch (outcome.kind) {
			case "accepted":
				this.#accepted(tracked, outcome.rejected);
				break;
			case "too_large":
				this.#split(tracked);
				break;
			case "refused":
				this.#refused(tracked, outcome.reason, outcome.badRecords, outcome.notice);
				break;
			case "out_of_time":
				this.#batches.giveUp(tracked, "expired");
		}
		this.turn();
	}

	#accepted(tracked: Tracked, rejected: RejectedRecord[]): void {
		// A server that names more logs than it was sent must not make the counts negative.
		const rejectedCount = Math.min(rejected.length, tracked.recordCount);
		const sent = tracked.recordCount - rejectedCount;
		if (tracked.tag === undefined) {
			this.progress.adoptedSent += sent;
			this.progress.adoptedDropped += rejectedCount;
		} else {
			this.progress.sent += sent;
			this.progress.rejected += rejectedCount;
		}
		// Each is told by its rule; the logs themselves are in nobody's notices.
		for (const { reason, message } of rejected) {
			this.#notifyRejected(reason, message);
		}
		this.#batches.complete(tracked);
	}

	#notifyRejected(reason: string, message: string): void {
		const rejection = this.#rejections.add(reason, message, this.#platform.now());
		if (rejection === undefined) {
			return;
		}
		const call = this.#config.onRejected;
		if (call === undefined) {
			const { count } = rejection;
			this.#config.notice(`the server rejected ${count} logs, ${reason}: ${message}`);
			return;
		}
		try {
			call(rejection);
		} catch (error) {
			this.#notifyFault("onRejected", `onRejected threw: ${errorText(error)}`);
		}
	}

	/** Resends a batch without the logs that the server named, once; gives it up otherwise. */
	#refused(tracked: Tracked, reason: DropReason, bad: number[], notice: string): void {
		// Positions beyond the batch are a fault of the server, and repair nothing.
		const count = bad.filter((position) => position < tracked.recordCount).length;
		// Once only: a server that always finds another log would have the batch sent for ever.
		const isRepairable = !tracked.isRepaired && count > 0 && count < tracked.recordCount;
		// Ids that follow from the batch, so that a process that dies here and the next come to the same.
		const { sha256 } = this.#platform;
		const rest =
			isRepairable && tracked.batch !== undefined
				? without(tracked.batch, bad, reason, sha256)
				: undefined;
		if (rest === undefined) {
			this.#notifyFault("batch", notice);
			this.#batches.giveUp(tracked, reason);
			return;
		}
		this.#batches.countDrop(tracked, reason, count);
		this.#batches.replace(tracked, [successor(tracked, rest, { isRepaired: true })]);
	}

	/** Splits a batch that is too large, or gives it up if it is a single log. */
	#split(tracked: Tracked): void {
		const { sha256 } = this.#platform;
		const parts = tracked.batch === undefined ? undefined : halves(tracked.batch, sha256);
		if (parts === undefined) {
			this.#batches.giveUp(tracked, "too_large");
			return;
		}
		const [first, second] = parts;
		this.#batches.countMoved(tracked, second.recordCount);
		this.#learnLimit(first);
		this.#batches.replace(tracked, [
			successor(tracked, first),
			successor(tracked, second, { isMoved: true }),
		]);
	}

	/**
	 * From now on no batch is larger than the half of one that was too large, so that splitting, and a
	 * producer for each second half, stays rare.
	 */
	#learnLimit(half: EncodedBatch): void {
		this.#batchRecords = Math.min(this.#batchRecords, half.recordCount);
		// A server must take a single log, whatever it says of a batch.
		const bytes = Math.max(half.request.length, batchBytesFloor);
		this.#batchBytes = Math.min(this.#batchBytes, bytes);
	}

	#notifyFault(kind: string, text: string): void {
		if (this.#notices.isDue(kind, this.#platform.now())) {
			this.#config.notice(text);
		}
	}

	#notifyDrops(now: number): void {
		if (this.#queue.hasUntoldDrops && this.#notices.isDue(dropsNotice, now)) {
			const counts = dropCountsText(this.#queue.takeDropNotice());
			this.#config.notice(`logs dropped so far: ${counts}`);
		}
	}

	/** Sends a batch without logs, if its account is news to the server. */
	#tellAccount(): void {
		const account = this.#account();
		if (this.#batcher.isNews(account)) {
			this.#build(new Uint8Array(), 0, account);
		}
	}

	/** Leaves the rest to the spool or drops it, and replies to everyone. Waits for nothing. */
	finish(): void {
		if (this.#isFinished) {
			return;
		}
		// First: what follows must not start another turn.
		this.#isFinished = true;
		this.#queue.close();
		this.#platform.clear(this.#timer);
		this.#spoolTheQueue();
		// What the spool did not take is lost with the process.
		this.#batches.dropWhatIsNotOnDisk("shutdown_timeout");
		this.#queue.clear("shutdown_timeout");
		this.#spoolTheAccount();
		// After the account, which is the last that is written.
		this.#batches.disk.close();
		this.#sender.close();
		// The last drops are told even if others were a moment ago: there is no later.
		this.#notices.forget(dropsNotice);
		this.#notifyDrops(this.#platform.now());
		this.#waiters.replyToAll();
	}

	#spoolTheQueue(): void {
		this.#batches.disk.replaceIfTaken();
		this.#batches.retrySpool();
		while (this.#batches.disk.works && this.#queue.length > 0) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
		}
	}

	/** What the server could not be told now, it learns from the next process. */
	#spoolTheAccount(): void {
		if (this.#batches.disk.works && this.outstanding.spooled > 0) {
			this.#tellAccount();
		}
	}

	/** Sets a timer for the next moment at which there is something to do even if nothing happens. */
	#planNextTurn(now: number): void {
		const { oldest } = this.#queue;
		const moments = [
			this.#batchDue,
			this.#batches.disk.nextMoment,
			oldest === undefined ? undefined : oldest.arrivedAt + this.#config.memoryAgeMaxMs,
			this.#queue.hasUntoldDrops ? this.#notices.dueAt(dropsNotice) : undefined,
		];
		const next = Math.min(...moments.map((moment) => moment ?? Number.POSITIVE_INFINITY));
		this.#platform.clear(this.#timer);
		this.#timer = undefined;
		if (next < Number.POSITIVE_INFINITY) {
			// A timer that is set for longer would fire at once.
			const milliseconds = Math.min(Math.max(0, next - now), timerMaxMs);
			this.#timer = this.#platform.later(milliseconds, () => this.turn());
		}
	}
}
