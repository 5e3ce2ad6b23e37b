/** The batches that are outstanding: where each is, and how many logs wait in them. */

import type { FrameRef } from "../../platform.js";
import type { EncodedBatch } from "../batch.js";

/** A batch that is outstanding: neither accepted nor given up so far. */
export interface Tracked {
	/** None while it is on disk alone. */
	batch: EncodedBatch | undefined;
	/** Where it is on disk, if it is. */
	frame: FrameRef | undefined;
	recordCount: number;
	/** A number that rises with each batch cut; none for a dead process's batch. */
	tag: number | undefined;
	/** When it was cut, by a clock that never jumps. */
	cutAt: number | undefined;
	/** It is in the account of a producer of its own, and counts as moved in ours. */
	isMoved: boolean;
	/** Logs that the server named as faulty were taken out of it. */
	isRepaired: boolean;
}

export function ownBatch(batch: EncodedBatch, tag: number, cutAt: number): Tracked {
	const { recordCount } = batch;
	return { batch, frame: undefined, recordCount, tag, cutAt, isMoved: false, isRepaired: false };
}

export function adoptedBatch(frame: FrameRef, recordCount: number): Tracked {
	return {
		batch: undefined,
		frame,
		recordCount,
		tag: undefined,
		cutAt: undefined,
		isMoved: false,
		isRepaired: false,
	};
}

/** A batch that takes another's place. */
export function successor(
	old: Tracked,
	batch: EncodedBatch,
	changes: Partial<Pick<Tracked, "isMoved" | "isRepaired">> = {},
): Tracked {
	return { ...old, batch, frame: undefined, recordCount: batch.recordCount, ...changes };
}

interface Count {
	batches: number;
	inMemory: number;
	spooled: number;
}

/** This client's outstanding batches, by tag. */
export class Outstanding {
	#tagsGiven = 0;
	/** In the order of the tags. */
	readonly #byTag = new Map<number, Count>();
	/** Logs in batches that are in memory alone. */
	inMemory = 0;
	/** Logs in batches that are in the spool, or were until another process took it over. */
	spooled = 0;

	nextTag(): number {
		this.#tagsGiven += 1;
		this.#byTag.set(this.#tagsGiven, { batches: 0, inMemory: 0, spooled: 0 });
		return this.#tagsGiven;
	}

	/** A tag above all given so far. */
	get mark(): number {
		return this.#tagsGiven + 1;
	}

	/** Whether every batch below a mark is done with. */
	isCompleteBelow(mark: number): boolean {
		// Tags are given in order, and a map keeps the order of insertion.
		const [first] = this.#byTag.keys();
		return first === undefined || first >= mark;
	}

	/** Logs below a mark in memory, and in the spool. */
	recordsBelow(mark: number): { inMemory: number; spooled: number } {
		const sum = { inMemory: 0, spooled: 0 };
		for (const [tag, count] of this.#byTag) {
			if (tag >= mark) {
				break;
			}
			sum.inMemory += count.inMemory;
			sum.spooled += count.spooled;
		}
		return sum;
	}

	add(tag: number, records: number, isSpooled: boolean): void {
		const count = this.#byTag.get(tag);
		if (count !== undefined) {
			count.batches += 1;
			this.#count(count, records, isSpooled);
		}
	}

	remove(tag: number, records: number, isSpooled: boolean): void {
		const count = this.#byTag.get(tag);
		if (count === undefined) {
			return;
		}
		count.batches -= 1;
		this.#count(count, -records, isSpooled);
		if (count.batches === 0) {
			this.#byTag.delete(tag);
		}
	}

	/** Another process sends what was in the spool alone. It stays counted, but nobody here waits for it. */
	leaveToAdopter(tag: number, records: number): void {
		this.remove(tag, records, true);
		// In the account only: the server sees it arrive from the adopter.
		this.spooled += records;
	}

	/** A batch that was in the spool is in memory alone, or the other way round. */
	move(tag: number, records: number, isSpooled: boolean): void {
		const count = this.#byTag.get(tag);
		if (count !== undefined) {
			this.#count(count, -records, !isSpooled);
			this.#count(count, records, isSpooled);
		}
	}

	#count(count: Count, records: number, isSpooled: boolean): void {
		const kind = isSpooled ? "spooled" : "inMemory";
		count[kind] += records;
		this[kind] += records;
	}
}

/** Of so many sends one goes to what waits on disk, and one of twice as many to the dead's. */
const backlogTurn = 4;

/** Batches that wait for their turn, each line oldest first. */
export class Lines {
	/** In memory. */
	readonly live: Tracked[] = [];
	/** Own ones on disk alone. */
	#backlog: Tracked[] = [];
	/** Of dead processes, on disk alone. */
	#adopted: Tracked[] = [];
	#turns = 0;

	addAdopted(tracked: Tracked): void {
		this.#adopted.push(tracked);
	}

	/**
	 * What is newest in line first, but what waits on disk has its share, so that neither starves the
	 * other. `mayBeAdopted`: whether it may be a dead process's.
	 */
	next(mayBeAdopted: boolean): Tracked | undefined {
		this.#turns += 1;
		const turn = this.#turns % (2 * backlogTurn);
		// The line is looked at as if it were empty, so that the others take its turn.
		const adopted = mayBeAdopted ? this.#adopted : [];
		const others = [this.live, this.#backlog, adopted];
		const lines =
			turn === 0
				? [adopted, ...others]
				: turn === backlogTurn
					? [this.#backlog, ...others]
					: others;
		return lines.find(({ length }) => length > 0)?.shift();
	}

	/** Keeps in memory what will be sent next, and no more. What is not on disk stays. */
	leaveSurplusOnDisk(liveMax: number): void {
		while (this.live.length > liveMax) {
			// The oldest that is on disk: it is the first to be sent, and to be read back.
			const at = this.live.findIndex(({ frame }) => frame !== undefined);
			const [surplus] = at < 0 ? [] : this.live.splice(at, 1);
			if (surplus === undefined) {
				return;
			}
			surplus.batch = undefined;
			this.#backlog.push(surplus);
		}
	}

	/** Takes out what was on disk alone, and is gone from there. */
	takeOut(isGone: (tracked: Tracked) => boolean): Tracked[] {
		const gone = [...this.#backlog, ...this.#adopted].filter(isGone);
		this.#backlog = this.#backlog.filter((tracked) => !isGone(tracked));
		this.#adopted = this.#adopted.filter((tracked) => !isGone(tracked));
		return gone;
	}
}
