/** The batches that are outstanding: in memory, on disk, under way; and what each counts as. */

import type { Config } from "../../config.js";
import type { DropReason } from "../../errors.js";
import type { Platform } from "../../platform.js";
import type { EncodedBatch } from "../batch.js";
import type { Queue } from "../queue.js";
import type { Progress } from "../shared.js";
import { Disk } from "./disk.js";
import { adoptedBatch, Lines, Outstanding, type Tracked } from "./track.js";

export class Batches {
	readonly #queue: Queue;
	readonly #progress: Progress;
	readonly #inFlightMax: number;
	readonly #wake: () => void;
	readonly #lines = new Lines();
	readonly disk: Disk;
	readonly outstanding = new Outstanding();
	/** Batches under way to the server. */
	readonly inFlight = new Set<Tracked>();
	/** Own logs that are in the accounts of other producers, because their batch was split. */
	moved = 0;

	/** Opens the spool if the settings have one. `wake`: something is to be done soon. */
	constructor(
		platform: Platform,
		config: Config,
		queue: Queue,
		progress: Progress,
		notifyFault: (kind: string, text: string) => void,
		wake: () => void,
	) {
		this.#queue = queue;
		this.#progress = progress;
		this.#inFlightMax = config.inFlight;
		this.#wake = wake;
		const onTaken = () => this.#leaveTakenSpool();
		this.disk = new Disk(platform, progress, { notifyFault, onTaken, wake });
		if (config.spool !== undefined) {
			this.disk.open(config.spool, config.notice);
		}
	}

	/** Whether another batch may be sent now. */
	get hasPlace(): boolean {
		return this.inFlight.size < this.#inFlightMax;
	}

	/** Gives up what is in memory alone. */
	dropWhatIsNotOnDisk(reason: DropReason): void {
		const left = [...this.inFlight, ...this.#lines.live];
		this.inFlight.clear();
		for (const tracked of left) {
			if (tracked.frame === undefined) {
				this.giveUp(tracked, reason);
			}
		}
	}

	/** Counts logs that go to the account of another producer. */
	countMoved(from: Tracked, count: number): void {
		// The second half of a half was moved already, and counts once.
		if (from.tag !== undefined && !from.isMoved) {
			this.moved += count;
		}
	}

	/** Takes over what dead processes left. */
	adopt(): Promise<void> {
		return this.disk.adopt(({ frame, recordCount }) => {
			this.#progress.adoptedWaiting += recordCount;
			this.#lines.addAdopted(adoptedBatch(frame, recordCount));
			this.#wake();
		});
	}

	maintainSpool(now: number): void {
		this.disk.renew(now);
		if (this.disk.isRetryDue(now)) {
			this.retrySpool();
		}
		if (this.disk.isAdoptionDue(now)) {
			void this.adopt();
		}
		this.disk.sync(now);
	}

	/** A batch is cut when it can go out at once, or to disk as all before it did. */
	mayCut(): boolean {
		if (this.inFlight.size + this.#lines.live.length < this.#inFlightMax) {
			return true;
		}
		// Memory stays bounded by the disk; a batch that is not on it yet keeps all that follow in the queue.
		return this.disk.works && this.#lines.live.every(({ frame }) => frame !== undefined);
	}

	/** One place is always free of dead processes' batches. */
	next(): Tracked | undefined {
		const adopted = [...this.inFlight].filter(({ tag }) => tag === undefined).length;
		return this.#lines.next(adopted < Math.max(1, this.#inFlightMax - 1));
	}

	/** The batch's bytes; undefined if they are lost, which is counted, or another's to send. */
	read(tracked: Tracked): EncodedBatch | undefined {
		const { batch, frame } = tracked;
		if (batch === undefined && frame !== undefined) {
			try {
				tracked.batch = this.disk.read(frame);
			} catch (error) {
				this.#cannotRead(tracked, error);
			}
		}
		return tracked.batch;
	}

	#cannotRead(tracked: Tracked, error: unknown): void {
		if (this.disk.replaceIfTaken()) {
			this.#leaveToAdopter(tracked);
		} else {
			this.disk.failed(error);
			this.giveUp(tracked, "internal_sdk_error");
		}
	}

	/** Takes a new batch on: into the spool if there is one, and into the line. */
	track(tracked: Tracked): void {
		this.#putIntoSpool(tracked);
		this.#begin(tracked);
		// First to disk, then out of memory, then out of a full disk: in any other order a batch could be
		// in neither place.
		this.#lines.live.push(tracked);
		this.#lines.leaveSurplusOnDisk(this.#inFlightMax);
		this.#evictFromSpool();
	}

	/**
	 * Puts batches at the head of the line in the place of one that cannot be sent as it is. They are in
	 * the spool before it leaves it.
	 */
	replace(old: Tracked, successors: Tracked[]): void {
		// Before the old one leaves the spool: a crash between sends both, which doubles nothing.
		for (const tracked of successors) {
			this.#putIntoSpool(tracked);
			this.#begin(tracked);
		}
		// They are the oldest in the line.
		this.#lines.live.unshift(...successors);
		this.complete(old);
		this.#evictFromSpool();
	}

	/** Counts a batch as given up. */
	giveUp(tracked: Tracked, reason: DropReason): void {
		this.countDrop(tracked, reason, tracked.recordCount);
		this.complete(tracked);
	}

	countDrop(tracked: Tracked, reason: DropReason, count: number): void {
		if (tracked.tag === undefined) {
			this.#progress.adoptedDropped += count;
			return;
		}
		this.#queue.countDrop(reason, count);
		if (tracked.isMoved) {
			// It leaves the other producer's account, too.
			this.moved -= count;
		}
	}

	/** A batch is done with, one way or the other. */
	complete(tracked: Tracked): void {
		const { frame, tag, recordCount } = tracked;
		if (tag === undefined) {
			this.#progress.adoptedWaiting -= recordCount;
		} else {
			this.outstanding.remove(tag, recordCount, frame !== undefined);
		}
		if (frame !== undefined) {
			this.disk.acknowledge(frame);
		}
	}

	#begin({ tag, recordCount, frame }: Tracked): void {
		if (tag === undefined) {
			this.#progress.adoptedWaiting += recordCount;
		} else {
			this.outstanding.add(tag, recordCount, frame !== undefined);
		}
	}

	#putIntoSpool(tracked: Tracked): void {
		if (tracked.batch !== undefined) {
			tracked.frame = this.disk.append(tracked.batch);
		}
	}

	/**
	 * Puts what is in memory alone into the spool, if the disk can be written again. While no batch is
	 * answered nothing else would find that out.
	 */
	retrySpool(): void {
		this.disk.beginRetry();
		const unwritten = [...this.inFlight, ...this.#lines.live].filter(
			({ frame }) => frame === undefined,
		);
		for (const tracked of unwritten) {
			if (this.disk.works) {
				this.#putIntoSpool(tracked);
			}
			if (tracked.frame !== undefined) {
				this.#countMove(tracked);
			}
		}
		this.#lines.leaveSurplusOnDisk(this.#inFlightMax);
		this.#evictFromSpool();
	}

	/** Gives up what a full spool has no room for. What is in memory as well is sent all the same. */
	#evictFromSpool(): void {
		for (;;) {
			const segment = this.disk.evict();
			if (segment === undefined) {
				return;
			}
			const isGone = ({ frame }: Tracked) => frame?.segment === segment;
			for (const tracked of this.#lines.takeOut(isGone)) {
				this.giveUp(tracked, "cache_overflow");
			}
			this.#keepInMemory(isGone);
		}
	}

	/** Goes on without the spool for batches whose frames there are gone. */
	#keepInMemory(isGone: (tracked: Tracked) => boolean): void {
		const isHit = (tracked: Tracked) => tracked.frame !== undefined && isGone(tracked);
		for (const tracked of [...this.#lines.live, ...this.inFlight].filter(isHit)) {
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

	/** What is on disk alone is the adopter's to send; what is in memory as well is sent by both, harmlessly. */
	#leaveTakenSpool(): void {
		for (const tracked of this.#lines.takeOut(() => true)) {
			this.#leaveToAdopter(tracked);
		}
		this.#keepInMemory(() => true);
	}

	/** A batch on disk alone that another process took over with the spool. */
	#leaveToAdopter({ tag, recordCount }: Tracked): void {
		if (tag === undefined) {
			this.#progress.adoptedWaiting -= recordCount;
		} else {
			this.outstanding.leaveToAdopter(tag, recordCount);
		}
	}
}
