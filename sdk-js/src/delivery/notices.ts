/** What a person may be told again and again, each kind at most once a minute. */

import type { Rejection } from "../options.js";

/** Drops, faults and rejections are told at most this often, milliseconds. */
const noticeIntervalMs = 60_000;
/** Most kinds told apart. */
const kindsMax = 64;

/** Whether a kind of notice is due. */
export class NoticeLimiter {
	readonly #notifiedAt = new Map<string, number>();

	/** True at most once a minute for each kind. */
	isDue(kind: string, now: number): boolean {
		const notifiedAt = this.#notifiedAt.get(kind);
		if (
			notifiedAt === undefined
				? this.#notifiedAt.size >= kindsMax
				: now < notifiedAt + noticeIntervalMs
		) {
			return false;
		}
		this.#notifiedAt.set(kind, now);
		return true;
	}

	/** When a kind may be told again. */
	dueAt(kind: string): number {
		return (this.#notifiedAt.get(kind) ?? Number.NEGATIVE_INFINITY) + noticeIntervalMs;
	}

	/** The kind may be told at once. */
	forget(kind: string): void {
		this.#notifiedAt.delete(kind);
	}
}

/** Counts rejected logs by the rule they broke. */
export class Rejections {
	readonly #notices = new NoticeLimiter();
	readonly #since = new Map<string, number>();

	/** Counts one; what is to be told of it now, if anything. */
	add(reason: string, message: string, now: number): Rejection | undefined {
		// Names of rules come from the server: a faulty one must not fill memory.
		if (!this.#since.has(reason) && this.#since.size >= kindsMax) {
			return undefined;
		}
		const count = (this.#since.get(reason) ?? 0) + 1;
		this.#since.set(reason, count);
		if (!this.#notices.isDue(reason, now)) {
			return undefined;
		}
		this.#since.set(reason, 0);
		return { reason, message, count };
	}
}
