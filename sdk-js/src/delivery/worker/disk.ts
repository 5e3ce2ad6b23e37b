/** The spool of the sending: opened, maintained, and done without where it fails. */

import { errorText } from "../../errors.js";
import type { Adopted, FrameRef, Platform, SpoolFiles, SpoolOptions } from "../../platform.js";
import type { EncodedBatch } from "../batch.js";
import type { Progress } from "../shared.js";

/**
 * How often writes are forced to disk, milliseconds: a power cut may cost what came since, and once a
 * second costs the disk next to nothing.
 */
const syncIntervalMs = 1_000;
/** How often the spool's owner shows that it lives, milliseconds: twenty times before it is taken for dead. */
const renewIntervalMs = 30_000;
/** How often a disk that could not be written is tried again, milliseconds. */
const retryIntervalMs = 1_000;
/** How often folders of dead processes are looked for, milliseconds. */
const adoptIntervalMs = 60_000;

/** What a disk tells its owner. */
export interface DiskEvents {
	/** Says what went wrong, each kind at most once a minute. */
	notifyFault: (kind: string, text: string) => void;
	/** Another process took the spool over: what is on disk alone is that one's to send. */
	onTaken: () => void;
	/** Something is to be done soon. */
	wake: () => void;
}

/** A spool that may fail, or not be wanted. A failure is counted and told. */
export class Disk {
	readonly #platform: Platform;
	readonly #progress: Progress;
	readonly #events: DiskEvents;
	#spool: SpoolFiles | undefined;
	/** Whether there is a spool, and the last write to it succeeded. */
	works = false;
	#syncAt = Number.POSITIVE_INFINITY;
	#retryAt = Number.POSITIVE_INFINITY;
	#renewAt = Number.POSITIVE_INFINITY;
	#adoptAt = Number.POSITIVE_INFINITY;

	constructor(platform: Platform, progress: Progress, events: DiskEvents) {
		this.#platform = platform;
		this.#progress = progress;
		this.#events = events;
	}

	get damagedRuns(): number {
		return this.#spool?.damagedRuns ?? 0;
	}

	/** Makes this client's own folder; a failure is told by `notice`, and costs no more than the spool. */
	open(options: SpoolOptions, notice: (text: string) => void): void {
		try {
			this.#spool = this.#platform.openSpool(options);
			this.works = true;
			this.#renewAt = this.#platform.now() + renewIntervalMs;
		} catch (error) {
			this.#progress.spoolFailures += 1;
			notice(`cannot open the spool, going on without: ${errorText(error)}`);
		}
	}

	/** Shows that this process lives, if it is time for it. */
	renew(now: number): void {
		const spool = this.#spool;
		if (spool !== undefined && now >= this.#renewAt) {
			this.#renewAt = now + renewIntervalMs;
			this.#guard(() => spool.renew());
		}
	}

	/** Forces what was written to disk, if it is time for it. */
	sync(now: number): void {
		if (now >= this.#syncAt) {
			this.#syncAt = Number.POSITIVE_INFINITY;
			this.#spool?.sync().catch((error: unknown) => {
				if (!this.replaceIfTaken()) {
					this.#writeFailed(error);
				}
			});
		}
	}

	isRetryDue(now: number): boolean {
		return now >= this.#retryAt;
	}

	/** From now on the disk counts as one that can be written, until it fails again. */
	beginRetry(): void {
		this.works = this.#spool !== undefined;
		this.#retryAt = Number.POSITIVE_INFINITY;
	}

	isAdoptionDue(now: number): boolean {
		return now >= this.#adoptAt;
	}

	/** Takes over what dead processes left. */
	async adopt(take: (adopted: Adopted) => void): Promise<void> {
		const spool = this.#spool;
		if (spool === undefined) {
			return;
		}
		this.#adoptAt = Number.POSITIVE_INFINITY;
		try {
			// Reading what the dead left takes turns with the program, so that it may take a while.
			await spool.adopt(take);
		} catch (error) {
			this.failed(error);
		}
		this.#adoptAt = this.#platform.now() + adoptIntervalMs;
		this.#events.wake();
	}

	/** Writes a batch; undefined if there is no spool that takes it. */
	append(batch: EncodedBatch): FrameRef | undefined {
		this.replaceIfTaken();
		const spool = this.#spool;
		if (spool === undefined) {
			return undefined;
		}
		try {
			const frame = spool.append(batch);
			this.works = true;
			if (spool.needsSync) {
				// Counted from the first write after the last sync, so that no write waits longer than the interval.
				this.#syncAt = Math.min(this.#syncAt, this.#platform.now() + syncIntervalMs);
			}
			return frame;
		} catch (error) {
			this.#writeFailed(error);
			return undefined;
		}
	}

	/** Reads a batch back. Throws if it is damaged or gone. */
	read(frame: FrameRef): EncodedBatch | undefined {
		return this.#spool?.read(frame);
	}

	/** Marks a batch as done with. */
	acknowledge(frame: FrameRef): void {
		this.#guard(() => this.#spool?.acknowledge(frame));
	}

	/** Deletes the oldest segment if the spool is too full; its number if so. */
	evict(): number | undefined {
		return this.#spool?.evict();
	}

	/** Leaves what is not done with to other processes. */
	close(): void {
		this.#guard(() => this.#spool?.close());
	}

	/** Begins a new spool if another process took the old one over; true if it did. */
	replaceIfTaken(): boolean {
		const spool = this.#spool;
		if (!spool?.isTaken) {
			return false;
		}
		// Before the new folder: what is counted there refers to the old one.
		this.#events.onTaken();
		try {
			spool.startOver();
			// What is in memory was in the old spool, and goes into the new one at once.
			this.#retryAt = this.#platform.now();
			this.#events.wake();
			this.#events.notifyFault("taken", "the spool was taken over, going on with a new one");
		} catch (error) {
			this.#writeFailed(error);
		}
		return true;
	}

	/** Counts a failure, and says so. */
	failed(error: unknown, what = "the spool fails"): void {
		this.#progress.spoolFailures += 1;
		this.#events.notifyFault("spool", `${what}: ${errorText(error)}`);
	}

	/** When it is to be maintained at the latest; infinite without a spool. */
	get nextMoment(): number {
		return Math.min(this.#syncAt, this.#retryAt, this.#renewAt, this.#adoptAt);
	}

	/** Logs stay in memory until the disk is tried again. */
	#writeFailed(error: unknown): void {
		this.works = false;
		this.#retryAt = Math.min(this.#retryAt, this.#platform.now() + retryIntervalMs);
		this.failed(error, "the spool fails, logs stay in memory");
		// A turn sets the timer for that.
		this.#events.wake();
	}

	/** Does something on the disk; a failure is counted and told, unless the spool was taken over. */
	#guard(action: () => void): void {
		try {
			action();
		} catch (error) {
			if (!this.replaceIfTaken()) {
				this.failed(error);
			}
		}
	}
}
