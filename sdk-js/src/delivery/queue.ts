/**
 * The logs that wait in memory for their batch: bounded in number and in bytes.
 *
 * Queue and counters change together within one call, so that an account taken from them always
 * balances. At the bounds the drop policy decides who goes; every drop is counted by its reason.
 */

import type { DropCounts, DropReason } from "../errors.js";
import { Level } from "../record/record.js";
import { Chunks, Lane, logOverheadBytes, type Run } from "./lane.js";

/**
 * Who goes when the queue is full. `severity_aware`: the oldest log of the lowest level present, the
 * new one included; a tenth of the queue is kept for ERROR and FATAL. `newest`: the new log. `oldest`:
 * the oldest log of any level.
 */
export type DropPolicy = "severity_aware" | "newest" | "oldest";

export const dropPolicies: readonly DropPolicy[] = ["severity_aware", "newest", "oldest"];

/** How much may wait, and what wakes the sending. */
export interface QueueBounds {
	recordsMax: number;
	bytesMax: number;
	/** Enough for a batch. */
	wakeRecords: number;
	wakeBytes: number;
	/** A log of this level is not kept waiting. */
	urgent: Level;
	policy: DropPolicy;
}

/** Logs taken out for a batch, back to back as they were pushed. */
export interface Taken {
	records: Uint8Array;
	count: number;
}

const laneCount = 6;
/** Lanes below this hold what is less than an error. */
const errorLane = 4;
/** A tenth is kept for errors. */
const reservedDivisor = 10;

export class Queue {
	readonly #bounds: QueueBounds;
	readonly #allocate: (bytes: number) => Uint8Array;
	readonly #overheadBytes: number;
	readonly #lanes: Lane[];
	/** Where logs are put together for a batch; used again and again. */
	#batch: Uint8Array = new Uint8Array();
	#records = 0;
	#bytes = 0;
	#recordsBelowError = 0;
	#bytesBelowError = 0;
	#nextPosition = 0;
	#isClosed = false;
	#isUrgent = false;
	#dropped: DropCounts = {};
	/** Logs handed over. */
	emitted = 0;
	/** Logs handed over after [close], in no other count. */
	emittedAfterClose = 0;
	/** There were drops that nobody was told of. */
	hasUntoldDrops = false;

	/** `overheadBytes`: what each log takes beside its encoded bytes. */
	constructor(
		bounds: QueueBounds,
		allocate: (bytes: number) => Uint8Array,
		overheadBytes = logOverheadBytes,
	) {
		this.#bounds = bounds;
		this.#overheadBytes = overheadBytes;
		this.#allocate = allocate;
		// All lanes share them: a burst of one level leaves memory for the others.
		const chunks = new Chunks(allocate);
		this.#lanes = Array.from({ length: laneCount }, () => new Lane(chunks));
	}

	/** Counts a log as handed over. False if it is too late for it. */
	enter(): boolean {
		if (this.#isClosed) {
			this.emittedAfterClose += 1;
			return false;
		}
		this.emitted += 1;
		return true;
	}

	/**
	 * Takes in an encoded log that was counted, a part of a buffer, and whoever must go for it out.
	 * `reason` is what an overflow counts as. True if the sending should know.
	 */
	push(
		buffer: Uint8Array,
		start: number,
		end: number,
		level: number,
		now: number,
		reason: DropReason,
	): boolean {
		const lane = laneOf(level);
		const memoryBytes = end - start + this.#overheadBytes;
		let wakes = false;
		while (this.#isFullFor(lane, memoryBytes)) {
			wakes = this.countDrop(reason, 1) || wakes;
			const victim = this.#victim(lane, memoryBytes);
			if (victim === undefined) {
				return wakes;
			}
			// One log may need the room of several smaller ones.
			this.#drop(victim);
		}
		// Before the log is counted: whether it is the first decides.
		wakes = this.#wakes(level, memoryBytes) || wakes;
		this.#lane(lane).push(buffer, start, end, this.#nextPosition, now);
		this.#nextPosition += 1;
		this.#records += 1;
		this.#bytes += memoryBytes;
		if (lane < errorLane) {
			this.#recordsBelowError += 1;
			this.#bytesBelowError += memoryBytes;
		}
		return wakes;
	}

	/** Whether a log of this level and size takes another's place, or has none. */
	isFullFor(level: number, length: number): boolean {
		return this.#isFullFor(laneOf(level), length + this.#overheadBytes);
	}

	/**
	 * Moves logs in order of arrival out, as many as fit. A log larger than a whole batch goes alone. They
	 * are valid until the next call.
	 */
	take(recordsMax: number, bytesMax: number): Taken {
		let count = 0;
		let end = 0;
		while (count < recordsMax) {
			const lane = this.#firstLane();
			if (lane === undefined) {
				break;
			}
			const run = this.#run(lane, recordsMax - count, bytesMax - end, count === 0);
			if (run.count === 0) {
				break;
			}
			// Before the logs leave their lane: an allocation may fail, and then they still wait.
			this.#makeRoom(end, run.bytes);
			this.#forget(lane, run);
			this.#lane(lane).take(run, this.#batch, end);
			count += run.count;
			end += run.bytes;
		}
		return { records: this.#batch.subarray(0, end), count };
	}

	/** Sees to it that so many bytes more fit into the batch. */
	#makeRoom(end: number, more: number): void {
		if (end + more > this.#batch.length) {
			// Doubled, so that a batch of many runs copies little.
			const larger = this.#allocate(Math.max(2 * this.#batch.length, end + more));
			larger.set(this.#batch.subarray(0, end));
			this.#batch = larger;
		}
	}

	/** Gives up the logs that arrived before a moment. */
	expire(limit: number): void {
		for (;;) {
			const lane = this.#firstLane();
			// The oldest of all lanes decides: logs arrive in order of time.
			if (lane === undefined || this.#lane(lane).arrivedAt > limit) {
				return;
			}
			this.#drop(lane);
			this.countDrop("expired", 1);
		}
	}

	/** Gives up everything that waits. */
	clear(reason: DropReason): void {
		this.countDrop(reason, this.#records);
		for (const lane of this.#lanes) {
			lane.clear();
		}
		this.#records = 0;
		this.#bytes = 0;
		this.#recordsBelowError = 0;
		this.#bytesBelowError = 0;
	}

	/** From now on logs are counted, and no more. */
	close(): void {
		this.#isClosed = true;
	}

	/** Counts logs given up. True if these are the first since [takeDropNotice]. */
	countDrop(reason: DropReason, count: number): boolean {
		if (count === 0) {
			return false;
		}
		this.giveUp(reason, count);
		const isFirst = !this.hasUntoldDrops;
		this.hasUntoldDrops = true;
		return isFirst;
	}

	/** Counts logs that the program gave up itself: they are no news to anybody. */
	giveUp(reason: DropReason, count: number): void {
		this.#dropped[reason] = (this.#dropped[reason] ?? 0) + count;
	}

	takeDropNotice(): DropCounts {
		this.hasUntoldDrops = false;
		return this.dropped;
	}

	takeUrgent(): boolean {
		const isUrgent = this.#isUrgent;
		this.#isUrgent = false;
		return isUrgent;
	}

	get dropped(): DropCounts {
		return { ...this.#dropped };
	}

	get length(): number {
		return this.#records;
	}

	/** What waits takes this much memory, bytes. */
	get bytes(): number {
		return this.#bytes;
	}

	get hasABatch(): boolean {
		return this.#records >= this.#bounds.wakeRecords || this.#bytes >= this.#bounds.wakeBytes;
	}

	/** The position that the next log will get. */
	get nextPosition(): number {
		return this.#nextPosition;
	}

	/** Position and arrival of the log that waits longest. */
	get oldest(): { position: number; arrivedAt: number } | undefined {
		const lane = this.#firstLane();
		if (lane === undefined) {
			return undefined;
		}
		const { position, arrivedAt } = this.#lane(lane);
		return { position, arrivedAt };
	}

	/** How many wait that arrived before a position. */
	lengthBefore(position: number): number {
		return this.#lanes.reduce((sum, lane) => sum + lane.lengthBefore(position), 0);
	}

	#lane(index: number): Lane {
		return this.#lanes[index] as Lane;
	}

	/** The first logs of a lane, as many as arrived before those of others, and fit. */
	#run(lane: number, recordsMax: number, bytesMax: number, mayBeLarger: boolean): Run {
		let before = Number.POSITIVE_INFINITY;
		for (let other = 0; other < laneCount; other += 1) {
			if (other !== lane) {
				before = Math.min(before, this.#lane(other).position);
			}
		}
		const first = this.#lane(lane);
		const run = first.run(before, recordsMax, bytesMax);
		// Otherwise it would block its lane for ever.
		return run.count === 0 && mayBeLarger ? { count: 1, bytes: first.bytes } : run;
	}

	#drop(lane: number): void {
		const first = this.#lane(lane);
		const run = { count: 1, bytes: first.bytes };
		this.#forget(lane, run);
		first.take(run);
	}

	#forget(lane: number, { count, bytes }: Run): void {
		const memoryBytes = bytes + count * this.#overheadBytes;
		this.#records -= count;
		this.#bytes -= memoryBytes;
		if (lane < errorLane) {
			this.#recordsBelowError -= count;
			this.#bytesBelowError -= memoryBytes;
		}
	}

	#isFullFor(lane: number, memoryBytes: number): boolean {
		const { recordsMax, bytesMax, policy } = this.#bounds;
		if (this.#records + 1 > recordsMax || this.#bytes + memoryBytes > bytesMax) {
			return true;
		}
		// A flood of lesser logs must not push out the errors that explain it.
		if (policy !== "severity_aware" || lane >= errorLane) {
			return false;
		}
		return (
			this.#recordsBelowError + 1 > withoutReserve(recordsMax) ||
			this.#bytesBelowError + memoryBytes > withoutReserve(bytesMax)
		);
	}

	/** The lane whose oldest log goes for a new one; none if the new one itself goes. */
	#victim(lane: number, memoryBytes: number): number | undefined {
		const { policy, bytesMax } = this.#bounds;
		if (memoryBytes > bytesMax || policy === "newest") {
			return undefined;
		}
		if (policy === "oldest") {
			return this.#firstLane();
		}
		const lowest = this.#lanes.findIndex((candidate) => candidate.length > 0);
		// Never a higher level than the new log's own: then the new one goes.
		return lowest >= 0 && lowest <= lane ? lowest : undefined;
	}

	#firstLane(): number | undefined {
		let first: number | undefined;
		let position = Number.POSITIVE_INFINITY;
		for (let lane = 0; lane < laneCount; lane += 1) {
			const candidate = this.#lane(lane).position;
			if (candidate < position) {
				first = lane;
				position = candidate;
			}
		}
		return first;
	}

	/** Wakes are rare on purpose: when waiting begins, when a batch is full, when a log is urgent. */
	#wakes(level: number, memoryBytes: number): boolean {
		const { wakeRecords, wakeBytes, urgent } = this.#bounds;
		const isUrgent = level >= urgent && !this.#isUrgent;
		this.#isUrgent ||= isUrgent;
		// Only the log that crosses the bound wakes: each wake costs a timer.
		const fillsBytes = this.#bytes < wakeBytes && this.#bytes + memoryBytes >= wakeBytes;
		return this.#records === 0 || this.#records + 1 === wakeRecords || fillsBytes || isUrgent;
	}
}

function withoutReserve(max: number): number {
	return max - Math.floor(max / reservedDivisor);
}

function laneOf(level: number): number {
	return (level === Level.UNSPECIFIED ? Level.INFO : level) - 1;
}
