/**
 * The sending: queue → batch → spool → server, and the account of it all.
 *
 * It takes a turn whenever something happens: a wake by the queue, a call of flush, an answer, a moment
 * that was waited for. A turn expires, cuts batches, answers those who wait, sends. Without a spool a
 * batch is cut only when it can be sent, so that memory holds no more than the queue and the batches
 * under way. With a spool batches are cut as they fill, and those that cannot be sent at once stay on
 * disk alone.
 */

import { type AccountCounts, Batcher, type EncodedBatch, halves, without } from "./batch.js";
import type { Config } from "./config.js";
import { type DropReason, dropCountsText, errorText } from "./errors.js";
import type { RejectedRecord } from "./generated/logweir/v1/ingest_pb.js";
import { Rejections, Rhythm } from "./notices.js";
import type { Platform, SpoolFiles } from "./platform.js";
import type { Queue } from "./queue.js";
import { messageBytesMax } from "./record.js";
import { Sender, type SendOutcome } from "./transport.js";
import { adoptedBatch, Outstanding, ownBatch, successor, type Tracked } from "./worker/track.js";
import { type FlushReport, Waiter } from "./worker/wait.js";

/** Of so many sends one goes to what waits on disk, and one of twice as many to the dead's. */
const backlogTurn = 4;
/** No server's limit is taken to be lower: it must take a single log. */
const batchBytesFloor = messageBytesMax;
/** The batch delay is spread by a tenth to either side. */
const delayShareMin = 0.9;
const delayShareSpread = 0.2;
/** How often writes are forced to disk, milliseconds. */
const syncIntervalMs = 1_000;
/** How often the spool's owner says that it lives, milliseconds. */
const renewIntervalMs = 30_000;
/** How often a disk that could not be written is tried again, milliseconds. */
const retryIntervalMs = 1_000;
/** How often folders of dead processes are looked for, milliseconds. */
const adoptIntervalMs = 60_000;
/** The longest a timer can be set for, milliseconds. */
const timerMaxMs = 0x7fff_ffff;
const batchRandomBytes = 10;
const producerIdBytes = 16;
const dropsNotice = "drops";

/** What the sending has done so far. */
export interface Progress {
	sent: number;
	rejected: number;
	adoptedWaiting: number;
	adoptedSent: number;
	adoptedDropped: number;
	spoolFailures: number;
}

export class Worker {
	readonly #platform: Platform;
	readonly #config: Config;
	readonly #queue: Queue;
	readonly #sender: Sender;
	readonly #batcher: Batcher;
	readonly outstanding = new Outstanding();
	readonly progress: Progress = {
		sent: 0,
		rejected: 0,
		adoptedWaiting: 0,
		adoptedSent: 0,
		adoptedDropped: 0,
		spoolFailures: 0,
	};
	#spool: SpoolFiles | undefined;
	/** Whether the last write to the spool succeeded. */
	#spoolWorks = false;
	/** When the spool is due for each of its duties. */
	#syncAt: number | undefined;
	#retryAt: number | undefined;
	#renewAt = Number.POSITIVE_INFINITY;
	#adoptAt = Number.POSITIVE_INFINITY;
	#batchRecords: number;
	#batchBytes: number;
	readonly #inFlight = new Set<Tracked>();
	/** Batches in memory that wait for their turn, oldest first. */
	readonly #live: Tracked[] = [];
	/** Own batches on disk alone that wait for their turn. */
	#backlog: Tracked[] = [];
	/** Batches of dead processes, on disk alone. */
	#adopted: Tracked[] = [];
	/** Own logs that are in the accounts of other producers, because their batch was split. */
	#moved = 0;
	#waiters: Waiter[] = [];
	/** Logs before this position are not kept waiting for others. */
	#forcedThrough = 0;
	#batchDue: number | undefined;
	readonly #rhythm = new Rhythm();
	readonly #rejections = new Rejections();
	#turns = 0;
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
		this.#openSpool();
		this.#sender = new Sender(platform, {
			addresses: config.addresses,
			token: config.token,
			door: { packing: config.packing, tls: config.tls },
			attemptTimeoutMs: config.attemptTimeoutMs,
			retry: config.retry,
			notice: config.notice,
			waitingPlace: () => (this.#spoolWorks ? "in the spool" : "in memory"),
		});
		this.adoption = this.#adopt();
	}

	get isTokenRefused(): boolean {
		return this.#sender.isTokenRefused;
	}

	get spoolDamaged(): number {
		return this.#spool?.damagedRuns ?? 0;
	}

	/** Whether nothing is left to send, and the server knows the account. */
	get isQuiet(): boolean {
		const { mark } = this.outstanding;
		const isSent = this.#queue.length === 0 && this.outstanding.isSettledBelow(mark);
		return this.#isFinished || (isSent && !this.#batcher.isNews(this.#account()));
	}

	/** Takes a turn once the running code has come to its end. */
	wake(): void {
		if (this.#isTurnSoon || this.#isFinished) {
			return;
		}
		this.#isTurnSoon = true;
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
	relieve(): void {
		if (this.#spoolWorks && !this.#isInTurn && !this.#isFinished) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
			// A turn sets the timer for forcing it to disk.
			this.wake();
		}
	}

	/** Waits until what was handed over before is settled, or until the deadline. */
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
			return Promise.resolve(this.#finalReport());
		}
		return new Promise((resolve) => {
			const waiter = new Waiter(this.#queue.nextPosition, this.#platform.now() + timeoutMs, closes);
			// The program waits for this, so it must not end before.
			const timer = this.#platform.laterForSure(Math.min(timeoutMs, timerMaxMs), () => {
				// By its own clock a timer may be a little early.
				waiter.deadline = this.#platform.now();
				this.turn();
			});
			waiter.answer = (report) => {
				this.#platform.clear(timer);
				resolve(report);
			};
			this.#waiters.push(waiter);
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
			this.#sayFault("turn", `a fault of the library itself: ${errorText(error)}`);
		} finally {
			this.#isInTurn = false;
		}
	}

	#takeTurn(now: number): void {
		this.#queue.expire(now - this.#config.memoryAgeMaxMs);
		this.#sayDrops(now);
		this.#tendSpool(now);
		this.#forceWhatIsDue(now);
		this.#cutBatches(now);
		this.#answerWaiters(now);
		this.#startSends(now);
		if (this.#mustFinish(now)) {
			this.finish();
		} else {
			this.#planNextTurn(now);
		}
	}

	#openSpool(): void {
		const options = this.#config.spool;
		if (options === undefined) {
			return;
		}
		try {
			this.#spool = this.#platform.openSpool(options);
			this.#spoolWorks = true;
			this.#renewAt = this.#platform.now() + renewIntervalMs;
		} catch (error) {
			this.progress.spoolFailures += 1;
			this.#config.notice(`cannot open the spool, going on without: ${errorText(error)}`);
		}
	}

	/** Takes over what dead processes left. */
	async #adopt(): Promise<void> {
		const spool = this.#spool;
		if (spool === undefined) {
			return;
		}
		this.#adoptAt = Number.POSITIVE_INFINITY;
		try {
			await spool.adopt(({ frame, recordCount }) => {
				this.progress.adoptedWaiting += recordCount;
				this.#adopted.push(adoptedBatch(frame, recordCount));
				this.wake();
			});
		} catch (error) {
			this.#spoolFailed(error);
		}
		this.#adoptAt = this.#platform.now() + adoptIntervalMs;
		this.wake();
	}

	#tendSpool(now: number): void {
		const spool = this.#spool;
		if (spool === undefined) {
			return;
		}
		if (now >= this.#renewAt) {
			this.#renewAt = now + renewIntervalMs;
			this.#guardDisk(() => spool.renew());
		}
		if (this.#retryAt !== undefined && now >= this.#retryAt) {
			this.#retrySpool();
		}
		if (now >= this.#adoptAt) {
			void this.#adopt();
		}
		this.#syncSpool(spool, now);
	}

	#syncSpool(spool: SpoolFiles, now: number): void {
		if (this.#syncAt !== undefined && now >= this.#syncAt) {
			this.#syncAt = undefined;
			spool.sync().catch((error: unknown) => this.#cannotSync(error));
		}
	}

	#cannotSync(error: unknown): void {
		if (!this.#replaceTakenSpool()) {
			this.#cannotWrite(error);
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
			this.#batchDue ??= now + this.#config.batchDelayMs * share;
		}
	}

	#cutBatches(now: number): void {
		while (this.#mayCut() && this.#hasCauseToCut()) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
			// A batch that can go out at once does not go to disk alone.
			this.#startSends(now);
		}
	}

	/** A batch is cut when it can go out at once, or to disk as all before it did. */
	#mayCut(): boolean {
		if (this.#inFlight.size + this.#live.length < this.#config.inFlight) {
			return true;
		}
		return this.#spoolWorks && this.#live.every(({ frame }) => frame !== undefined);
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
		const batch = this.#batcher.build(records, count, account, now, random);
		this.#track(ownBatch(batch, this.outstanding.nextTag(), this.#platform.now()));
	}

	#account(): AccountCounts {
		return {
			emitted: this.#queue.emitted,
			dropped: this.#queue.dropped,
			moved: this.#moved,
			rejected: this.progress.rejected,
			queued: this.#queue.length,
			spooled: this.outstanding.spooled,
		};
	}

	#startSends(now: number): void {
		while (this.#inFlight.size < this.#config.inFlight) {
			const tracked = this.#nextToSend();
			if (tracked === undefined) {
				return;
			}
			const batch = this.#read(tracked);
			if (batch !== undefined) {
				this.#startSend(tracked, batch, now);
			}
		}
	}

	/**
	 * What is newest in line first, but what waits on disk has its share, so that neither starves the
	 * other; one place is always free of dead processes' batches.
	 */
	#nextToSend(): Tracked | undefined {
		const adopted = [...this.#inFlight].filter(({ tag }) => tag === undefined).length;
		const mayAdopted = adopted < Math.max(1, this.#config.inFlight - 1);
		this.#turns += 1;
		const turn = this.#turns % (2 * backlogTurn);
		const preferred =
			turn === 0 && mayAdopted
				? this.#adopted.shift()
				: turn === backlogTurn
					? this.#backlog.shift()
					: undefined;
		return (
			preferred ??
			this.#live.shift() ??
			this.#backlog.shift() ??
			(mayAdopted ? this.#adopted.shift() : undefined)
		);
	}

	/** The batch's bytes; undefined if they are lost, which is counted, or another's to send. */
	#read(tracked: Tracked): EncodedBatch | undefined {
		const { batch, frame } = tracked;
		if (batch === undefined && frame !== undefined) {
			try {
				tracked.batch = this.#spool?.read(frame);
			} catch (error) {
				this.#cannotRead(tracked, error);
			}
		}
		return tracked.batch;
	}

	#cannotRead(tracked: Tracked, error: unknown): void {
		if (this.#replaceTakenSpool()) {
			this.#leaveToAdopter(tracked);
		} else {
			this.#spoolFailed(error);
			this.#giveUp(tracked, "internal_sdk_error");
		}
	}

	#startSend(tracked: Tracked, batch: EncodedBatch, now: number): void {
		const deadline = this.#deadline(tracked, batch, now);
		if (deadline <= now) {
			this.#giveUp(tracked, "expired");
			return;
		}
		this.#inFlight.add(tracked);
		const done = (outcome: SendOutcome) => this.#answered(tracked, outcome);
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
		const age = Number(this.#platform.nowUnixNano() - batch.createdUnixNano) / 1_000_000;
		return now + limit - Math.max(0, age);
	}

	#answered(tracked: Tracked, outcome: SendOutcome): void {
		if (!this.#inFlight.delete(tracked)) {
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
				this.#giveUp(tracked, "expired");
		}
		this.turn();
	}

	#accepted(tracked: Tracked, rejected: RejectedRecord[]): void {
		const rejectedCount = Math.min(rejected.length, tracked.recordCount);
		const sent = tracked.recordCount - rejectedCount;
		if (tracked.tag === undefined) {
			this.progress.adoptedSent += sent;
			this.progress.adoptedDropped += rejectedCount;
		} else {
			this.progress.sent += sent;
			this.progress.rejected += rejectedCount;
		}
		for (const { reason, message } of rejected) {
			this.#sayRejected(reason, message);
		}
		this.#settle(tracked);
	}

	#sayRejected(reason: string, message: string): void {
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
			this.#sayFault("onRejected", `onRejected threw: ${errorText(error)}`);
		}
	}

	/** Resends a batch without the logs that the server named, once; gives it up otherwise. */
	#refused(tracked: Tracked, reason: DropReason, bad: number[], notice: string): void {
		const count = bad.filter((position) => position < tracked.recordCount).length;
		const isRepairable = !tracked.isRepaired && count > 0 && count < tracked.recordCount;
		const { sha256 } = this.#platform;
		const rest =
			isRepairable && tracked.batch !== undefined
				? without(tracked.batch, bad, reason, sha256)
				: undefined;
		if (rest === undefined) {
			this.#sayFault("batch", notice);
			this.#giveUp(tracked, reason);
			return;
		}
		this.#countDrop(tracked, reason, count);
		this.#replace(tracked, [successor(tracked, rest, { isRepaired: true })]);
	}

	/** Splits a batch that is too large, or gives it up if it is a single log. */
	#split(tracked: Tracked): void {
		const { sha256 } = this.#platform;
		const parts = tracked.batch === undefined ? undefined : halves(tracked.batch, sha256);
		if (parts === undefined) {
			this.#giveUp(tracked, "too_large");
			return;
		}
		const [first, second] = parts;
		if (tracked.tag !== undefined && !tracked.isMoved) {
			this.#moved += second.recordCount;
		}
		this.#learnLimit(first);
		this.#replace(tracked, [
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
		const bytes = Math.max(half.request.length, batchBytesFloor);
		this.#batchBytes = Math.min(this.#batchBytes, bytes);
	}

	/** Takes a new batch on: into the spool if there is one, and into the line. */
	#track(tracked: Tracked): void {
		this.#putIntoSpool(tracked);
		this.#begin(tracked);
		this.#live.push(tracked);
		this.#leaveSurplusOnDisk();
		this.#evictFromSpool();
	}

	/**
	 * Puts batches at the head of the line in the place of one that cannot be sent as it is. They are in
	 * the spool before it leaves it.
	 */
	#replace(old: Tracked, successors: Tracked[]): void {
		for (const tracked of successors) {
			this.#putIntoSpool(tracked);
			this.#begin(tracked);
		}
		this.#live.unshift(...successors);
		this.#settle(old);
		this.#evictFromSpool();
	}

	/** Counts a batch as given up. */
	#giveUp(tracked: Tracked, reason: DropReason): void {
		this.#countDrop(tracked, reason, tracked.recordCount);
		this.#settle(tracked);
	}

	#countDrop(tracked: Tracked, reason: DropReason, count: number): void {
		if (tracked.tag === undefined) {
			this.progress.adoptedDropped += count;
			return;
		}
		this.#queue.countDrop(reason, count);
		if (tracked.isMoved) {
			this.#moved -= count;
		}
	}

	/** A batch is done with, one way or the other. */
	#settle(tracked: Tracked): void {
		const { frame, tag, recordCount } = tracked;
		if (tag === undefined) {
			this.progress.adoptedWaiting -= recordCount;
		} else {
			this.outstanding.remove(tag, recordCount, frame !== undefined);
		}
		const spool = this.#spool;
		if (frame !== undefined && spool !== undefined) {
			this.#guardDisk(() => spool.acknowledge(frame));
		}
	}

	#begin({ tag, recordCount, frame }: Tracked): void {
		if (tag === undefined) {
			this.progress.adoptedWaiting += recordCount;
		} else {
			this.outstanding.add(tag, recordCount, frame !== undefined);
		}
	}

	#putIntoSpool(tracked: Tracked): void {
		this.#replaceTakenSpool();
		const spool = this.#spool;
		const { batch } = tracked;
		if (spool === undefined || batch === undefined) {
			return;
		}
		try {
			tracked.frame = spool.append(batch);
			this.#spoolWorks = true;
			if (spool.needsSync) {
				this.#syncAt ??= this.#platform.now() + syncIntervalMs;
			}
		} catch (error) {
			this.#cannotWrite(error);
		}
	}

	/**
	 * Puts what is in memory alone into the spool, if the disk can be written again. While no batch is
	 * answered nothing else would find that out.
	 */
	#retrySpool(): void {
		this.#spoolWorks = this.#spool !== undefined;
		this.#retryAt = undefined;
		const unwritten = [...this.#inFlight, ...this.#live].filter(({ frame }) => frame === undefined);
		for (const tracked of unwritten) {
			if (this.#spoolWorks) {
				this.#putIntoSpool(tracked);
			}
			if (tracked.frame !== undefined) {
				this.#countMove(tracked);
			}
		}
		this.#leaveSurplusOnDisk();
		this.#evictFromSpool();
	}

	/** Keeps in memory what will be sent next, and no more. What is not on disk stays. */
	#leaveSurplusOnDisk(): void {
		while (this.#live.length > this.#config.inFlight) {
			const at = this.#live.findIndex(({ frame }) => frame !== undefined);
			const [surplus] = at < 0 ? [] : this.#live.splice(at, 1);
			if (surplus === undefined) {
				return;
			}
			surplus.batch = undefined;
			this.#backlog.push(surplus);
		}
	}

	/** Gives up what a full spool has no room for. What is in memory as well is sent all the same. */
	#evictFromSpool(): void {
		for (;;) {
			const segment = this.#spool?.evict();
			if (segment === undefined) {
				return;
			}
			const isGone = ({ frame }: Tracked) => frame?.segment === segment;
			const gone = [...this.#backlog, ...this.#adopted].filter(isGone);
			this.#backlog = this.#backlog.filter((tracked) => !isGone(tracked));
			this.#adopted = this.#adopted.filter((tracked) => !isGone(tracked));
			for (const tracked of gone) {
				this.#giveUp(tracked, "cache_overflow");
			}
			this.#keepInMemory(isGone);
		}
	}

	/** Goes on without the spool for batches whose frames there are gone. */
	#keepInMemory(isGone: (tracked: Tracked) => boolean): void {
		const isHit = (tracked: Tracked) => tracked.frame !== undefined && isGone(tracked);
		for (const tracked of [...this.#live, ...this.#inFlight].filter(isHit)) {
			tracked.frame = undefined;
			this.#countMove(tracked);
		}
	}

	/** Counts a batch that is in the spool now, or is no longer, among those in its new place. */
	#countMove({ tag, recordCount, frame }: Tracked): void {
		if (tag !== undefined) {
			this.outstanding.move(tag, recordCount, frame !== undefined);
		}
	}

	/**
	 * Makes a new spool if the old one was taken over; true if it was. What is on disk alone is then the
	 * other's to send; what is in memory as well is sent by both, which is harmless.
	 */
	#replaceTakenSpool(): boolean {
		const spool = this.#spool;
		if (!spool?.isTaken) {
			return false;
		}
		for (const tracked of [...this.#backlog.splice(0), ...this.#adopted.splice(0)]) {
			this.#leaveToAdopter(tracked);
		}
		this.#keepInMemory(() => true);
		try {
			spool.startOver();
			this.#retryAt = this.#platform.now();
			this.wake();
			this.#sayFault("taken", "the spool was taken over, going on with a new one");
		} catch (error) {
			this.#cannotWrite(error);
		}
		return true;
	}

	/** A batch on disk alone that another process took over with the spool. */
	#leaveToAdopter({ tag, recordCount }: Tracked): void {
		if (tag === undefined) {
			this.progress.adoptedWaiting -= recordCount;
		} else {
			this.outstanding.leaveToAdopter(tag, recordCount);
		}
	}

	/** Does something on the disk; a failure is counted and told. */
	#guardDisk(action: () => void): void {
		try {
			action();
		} catch (error) {
			if (!this.#replaceTakenSpool()) {
				this.#spoolFailed(error);
			}
		}
	}

	/** Logs stay in memory until the disk is tried again. */
	#cannotWrite(error: unknown): void {
		this.#spoolWorks = false;
		this.#retryAt ??= this.#platform.now() + retryIntervalMs;
		this.#spoolFailed(error, "the spool fails, logs stay in memory");
		// A turn sets the timer for that.
		this.wake();
	}

	#spoolFailed(error: unknown, what = "the spool fails"): void {
		this.progress.spoolFailures += 1;
		this.#sayFault("spool", `${what}: ${errorText(error)}`);
	}

	#sayFault(kind: string, text: string): void {
		if (this.#rhythm.isDue(kind, this.#platform.now())) {
			this.#config.notice(text);
		}
	}

	#sayDrops(now: number): void {
		if (this.#queue.isDropUnsaid && this.#rhythm.isDue(dropsNotice, now)) {
			const counts = dropCountsText(this.#queue.takeDropNotice());
			this.#config.notice(`logs dropped so far: ${counts}`);
		}
	}

	/** Answers those whose logs are settled, or whose time is up. A shutdown is left to [finish]. */
	#answerWaiters(now: number): void {
		for (const waiter of this.#waiters) {
			this.#advance(waiter);
		}
		const waiting = this.#waiters;
		this.#waiters = [];
		for (const waiter of waiting) {
			if (!waiter.closes && (waiter.isOver(this.outstanding) || waiter.deadline <= now)) {
				waiter.answer(this.#report(waiter));
			} else {
				this.#waiters.push(waiter);
			}
		}
	}

	/** First the logs, then the account, if the server does not know it as it is now. */
	#advance(waiter: Waiter): void {
		const { oldest } = this.#queue;
		if (oldest === undefined || oldest.position >= waiter.position) {
			waiter.mark ??= this.outstanding.mark;
		}
		const { mark } = waiter;
		if (mark === undefined || waiter.isAccountTold || !this.outstanding.isSettledBelow(mark)) {
			return;
		}
		waiter.isAccountTold = true;
		const account = this.#account();
		if (this.#batcher.isNews(account)) {
			this.#build(new Uint8Array(), 0, account);
		}
		// Also when another waiter's account is under way.
		waiter.mark = this.outstanding.mark;
	}

	#report(waiter: Waiter): FlushReport {
		const { inMemory, spooled } = this.outstanding.recordsBelow(
			waiter.mark ?? this.outstanding.mark,
		);
		return {
			sent: this.progress.sent,
			rejected: this.progress.rejected,
			dropped: this.#queue.dropped,
			spooled,
			pending: inMemory + this.#queue.lengthBefore(waiter.position),
		};
	}

	/** Whether a shutdown has done what it could. */
	#mustFinish(now: number): boolean {
		const isOver = (waiter: Waiter) => waiter.isOver(this.outstanding) || waiter.deadline <= now;
		return this.#waiters.some((waiter) => waiter.closes && isOver(waiter));
	}

	/** Leaves the rest to the spool or drops it, and answers everyone. Waits for nothing. */
	finish(): void {
		if (this.#isFinished) {
			return;
		}
		this.#isFinished = true;
		this.#queue.close();
		this.#platform.clear(this.#timer);
		this.#replaceTakenSpool();
		this.#retrySpool();
		while (this.#spoolWorks && this.#queue.length > 0) {
			this.#cutBatch(this.#batchRecords, this.#batchBytes);
		}
		const left = [...this.#inFlight, ...this.#live];
		this.#inFlight.clear();
		for (const tracked of left) {
			if (tracked.frame === undefined) {
				this.#giveUp(tracked, "shutdown_timeout");
			}
		}
		this.#queue.clear("shutdown_timeout");
		this.#spoolTheAccount();
		this.#guardDisk(() => this.#spool?.close());
		this.#sender.close();
		this.#rhythm.forget(dropsNotice);
		this.#sayDrops(this.#platform.now());
		const waiting = this.#waiters;
		this.#waiters = [];
		for (const waiter of waiting) {
			waiter.answer(this.#finalReport());
		}
	}

	/** What the server could not be told now, it learns from the next process. */
	#spoolTheAccount(): void {
		const account = this.#account();
		const isLeft = this.outstanding.spooled > 0;
		if (this.#spoolWorks && isLeft && this.#batcher.isNews(account)) {
			this.#build(new Uint8Array(), 0, account);
		}
	}

	#finalReport(): FlushReport {
		return {
			sent: this.progress.sent,
			rejected: this.progress.rejected,
			dropped: this.#queue.dropped,
			spooled: this.outstanding.spooled,
			pending: 0,
		};
	}

	/** Sets a timer for the next moment at which there is something to do even if nothing happens. */
	#planNextTurn(now: number): void {
		const { oldest } = this.#queue;
		const moments = [
			this.#batchDue,
			this.#syncAt,
			this.#retryAt,
			this.#spool === undefined ? undefined : Math.min(this.#renewAt, this.#adoptAt),
			oldest === undefined ? undefined : oldest.arrivedAt + this.#config.memoryAgeMaxMs,
			this.#queue.isDropUnsaid ? this.#rhythm.dueAt(dropsNotice) : undefined,
		];
		const next = Math.min(...moments.map((moment) => moment ?? Number.POSITIVE_INFINITY));
		this.#platform.clear(this.#timer);
		this.#timer = undefined;
		if (next < Number.POSITIVE_INFINITY) {
			const milliseconds = Math.min(Math.max(0, next - now), timerMaxMs);
			this.#timer = this.#platform.later(milliseconds, () => this.turn());
		}
	}
}
