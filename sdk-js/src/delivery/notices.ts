/** What may be said again and again, each kind at most once a minute. */

import type { Rejection } from "./config.js";

/** Drops, faults and rejections are said this often, milliseconds. */
const noticeIntervalMs = 60_000;
/** Most kinds told apart. */
const kindsMax = 64;

/** Whether a kind of notice is due. */
export class Rhythm {
	readonly #saidAt = new Map<string, number>();

	/** True at most once a minute for each kind. */
	isDue(kind: string, now: number): boolean {
		const saidAt = this.#saidAt.get(kind);
		if (saidAt === undefined ? this.#saidAt.size >= kindsMax : now < saidAt + noticeIntervalMs) {
			return false;
		}
		this.#saidAt.set(kind, now);
		return true;
	}

	/** When a kind may be said again. */
	dueAt(kind: string): number {
		return (this.#saidAt.get(kind) ?? Number.NEGATIVE_INFINITY) + noticeIntervalMs;
	}

	/** The kind may be said at once. */
	forget(kind: string): void {
		this.#saidAt.delete(kind);
	}
}

/** Counts rejected logs by the rule they broke. */
export class Rejections {
	readonly #rhythm = new Rhythm();
	readonly #since = new Map<string, number>();

	/** Counts one; what is to be said of it now, if anything. */
	add(reason: string, message: string, now: number): Rejection | undefined {
		if (!this.#since.has(reason) && this.#since.size >= kindsMax) {
			return undefined;
		}
		const count = (this.#since.get(reason) ?? 0) + 1;
		this.#since.set(reason, count);
		if (!this.#rhythm.isDue(reason, now)) {
			return undefined;
		}
		this.#since.set(reason, 0);
		return { reason, message, count };
	}
}
