/**
 * What a program holds: a client. It takes logs at once, encodes them, and sends them while the
 * program's own code is not running.
 */

import { type Config, resolveConfig } from "./config.js";
import { Queue } from "./delivery/queue.js";
import { Worker } from "./delivery/worker.js";
import type { ClientOptions, MutableLogRecord } from "./options.js";
import type { EndListener, Platform } from "./platform.js";
import { Encoder } from "./record/encode.js";
import { nestedLogsMax } from "./record/limits.js";
import {
	type Attributes,
	Level,
	type LevelName,
	type LogRecord,
	toLevel,
} from "./record/record.js";
import { Redaction } from "./record/redaction.js";
import { isKept } from "./record/sampling.js";
import type { FlushReport, Stats } from "./report.js";

/** How long a program that ends by itself waits for its last logs, milliseconds. */
const endTimeoutMs = 5_000;
/** How long flush and shutdown wait if they are not told, milliseconds. */
const flushTimeoutMsDefault = 5_000;
/** Stands for a level that is none, which the encoder clears and flags. */
const noLevel = -1;

const timeReplacedNotice =
	"the time given with a log is not valid, so it has the time of the call: give milliseconds since 1970";

/**
 * Sends logs in the background. After it is made nothing here throws, waits for I/O or grows without
 * bound: what cannot be delivered is dropped by the drop policy, and counted.
 */
export class BaseClient {
	readonly #platform: Platform;
	readonly #config: Config;
	readonly #redaction: Redaction;
	readonly #encoder: Encoder;
	readonly #queue: Queue;
	readonly #worker: Worker;
	readonly #hasSpool: boolean;
	readonly #stopListening: () => void;
	/** The two clocks, read together. */
	#lastUnixMs = 0;
	#lastNow = 0;
	/** The program's own `beforeSend` is running. */
	#isInHook = false;
	/** What a person was told of the program's own mistakes. */
	readonly #notified = new Set<string>();
	/** How many logs are being encoded, each made by a value of the one before. */
	#depth = 0;

	/** Throws a `ConfigError` for a setting that cannot be used. The server need not be up. */
	constructor(options: ClientOptions, platform: Platform) {
		this.#platform = platform;
		this.#config = resolveConfig(options, platform);
		// Once for all encoders: its patterns are dear to make.
		this.#redaction = new Redaction(this.#config.redactKeys);
		this.#encoder = this.#newEncoder();
		this.#queue = new Queue(this.#config.queue, platform.allocate);
		this.#hasSpool = this.#config.spool !== undefined;
		this.#worker = new Worker(platform, this.#config, this.#queue);
		this.#stopListening = platform.onEnd(this.#endListener());
	}

	/**
	 * Takes a log. Of the attributes, `latency_ms` or `duration_ms` (a number), `trace_id` and `span_id`
	 * (hexadecimal) and `logger` (a text) become fields of the log. Without ids, the trace of the running
	 * code is used; without a time, milliseconds since 1970-01-01 UTC, it happens now. An invalid time
	 * gives way to that of the call, which the log's `logweir.truncated` and a notice say.
	 */
	emit(
		level: Level | LevelName,
		message: unknown,
		attributes?: Attributes,
		timeUnixMs?: number,
	): void {
		this.#take(levelNumber(level), message, attributes, undefined, timeUnixMs);
	}

	/** Takes a log that is given field by field. */
	emitRecord(record: LogRecord): void {
		this.#take(Level.UNSPECIFIED, undefined, undefined, record ?? {});
	}

	trace(message: unknown, attributes?: Attributes): void {
		this.#take(Level.TRACE, message, attributes, undefined);
	}

	debug(message: unknown, attributes?: Attributes): void {
		this.#take(Level.DEBUG, message, attributes, undefined);
	}

	info(message: unknown, attributes?: Attributes): void {
		this.#take(Level.INFO, message, attributes, undefined);
	}

	warn(message: unknown, attributes?: Attributes): void {
		this.#take(Level.WARN, message, attributes, undefined);
	}

	error(message: unknown, attributes?: Attributes): void {
		this.#take(Level.ERROR, message, attributes, undefined);
	}

	fatal(message: unknown, attributes?: Attributes): void {
		this.#take(Level.FATAL, message, attributes, undefined);
	}

	/**
	 * Waits until the server has responded to everything handed over before the call, or the time is up, milliseconds.
	 * May be called by several at once. Never rejects.
	 */
	flush(timeoutMs = flushTimeoutMsDefault): Promise<FlushReport> {
		return this.#worker.flush(nonNegative(timeoutMs));
	}

	/**
	 * Takes no more logs, flushes, leaves the rest to the spool or drops it, and says what happened.
	 * Later calls get the same report. Never rejects.
	 */
	async shutdown(timeoutMs = flushTimeoutMsDefault): Promise<FlushReport> {
		const report = await this.#worker.shutdown(nonNegative(timeoutMs));
		this.#stopListening();
		return report;
	}

	/** Resolves once the first look for what dead processes left in the spool is over. */
	adoption(): Promise<void> {
		return this.#worker.adoption;
	}

	/** Counts since the start. */
	stats(): Stats {
		const { progress, outstanding } = this.#worker;
		return {
			emitted: this.#queue.emitted,
			sent: progress.sent,
			rejected: progress.rejected,
			dropped: this.#queue.dropped,
			queued: this.#queue.length,
			inFlight: outstanding.inMemory,
			spooled: outstanding.spooled,
			adoptedWaiting: progress.adoptedWaiting,
			adoptedSent: progress.adoptedSent,
			adoptedDropped: progress.adoptedDropped,
			spoolFailures: progress.spoolFailures,
			spoolDamaged: this.#worker.spoolDamaged,
			emittedAfterShutdown: this.#queue.emittedAfterClose,
		};
	}

	#take(
		level: number,
		message: unknown,
		attributes: Attributes | undefined,
		record: LogRecord | undefined,
		timeUnixMs?: number,
	): void {
		// Counted before anything can fail, so that every log is in the account.
		if (this.#config.isDisabled || !this.#queue.enter()) {
			return;
		}
		try {
			this.#takeCounted(level, message, attributes, record, timeUnixMs);
		} catch {
			// Whatever the program handed over, it must not fail for it.
			// It was counted as handed over, so that it must be in one of the counts.
			this.#queue.countDrop("internal_sdk_error", 1);
			this.#worker.wake();
		}
	}

	#takeCounted(
		givenLevel: number,
		message: unknown,
		attributes: Attributes | undefined,
		record: LogRecord | undefined,
		timeUnixMs: number | undefined,
	): void {
		const level = record === undefined ? givenLevel : (record.level ?? givenLevel);
		// Before it is encoded: what is left out should cost nearly nothing.
		if (!isKept(this.#config.sampleRates, level, this.#platform.randomShare)) {
			this.#queue.giveUp("sample_rate", 1);
			return;
		}
		// The short way, without an object for the log, which most programs always take.
		if (record === undefined && (this.#config.beforeSend === undefined || this.#isInHook)) {
			this.#pushPlain(level, message, attributes, timeUnixMs);
			return;
		}
		const whole = this.#whole(level, message, attributes, record);
		if (this.#isKept(whole)) {
			this.#pushWhole(whole, record === undefined, timeUnixMs);
		} else {
			this.#queue.giveUp("before_send", 1);
		}
	}

	/** The log field by field, as `beforeSend` may change it. */
	#whole(
		level: number,
		message: unknown,
		attributes: Attributes | undefined,
		record: LogRecord | undefined,
	): MutableLogRecord {
		// A trace that the program gives wins over the one that runs here.
		const hasTrace = (record?.traceId ?? undefined) !== undefined;
		const trace = hasTrace ? undefined : this.#platform.currentTrace();
		const given = record ?? { level, message: message as string, attributes };
		return { ...given, ...trace };
	}

	/** What the program's own `beforeSend` makes of a log. It is not asked about its own. */
	#isKept(record: MutableLogRecord): boolean {
		const call = this.#config.beforeSend;
		if (call === undefined || this.#isInHook) {
			return true;
		}
		this.#isInHook = true;
		try {
			const result: unknown = call(record);
			return isThenable(result) ? this.#refusePromise(result) : result !== false;
		} catch {
			return false;
		} finally {
			this.#isInHook = false;
		}
	}

	/** A log cannot wait for a promise; one that is rejected must not end the program. */
	#refusePromise(result: PromiseLike<unknown>): false {
		result.then(undefined, () => {});
		this.#notifyOnce("beforeSend returned a promise, its logs are dropped: make it synchronous");
		return false;
	}

	#notifyOnce(notice: string): void {
		if (!this.#notified.has(notice)) {
			this.#notified.add(notice);
			this.#config.notice(notice);
		}
	}

	#pushPlain(
		level: number,
		message: unknown,
		attributes: Attributes | undefined,
		timeUnixMs: number | undefined,
	): void {
		const trace = this.#platform.currentTrace();
		// Once for the time of the log and for its age in the queue.
		const nowUnixMs = Date.now();
		const encoder = this.#enterEncoder();
		try {
			const end = encoder.encodePlain(level, message, attributes, trace, timeUnixMs, nowUnixMs);
			this.#push(encoder, level, end, nowUnixMs);
		} finally {
			this.#depth -= 1;
		}
	}

	#pushWhole(record: LogRecord, isPlain: boolean, timeUnixMs: number | undefined): void {
		const nowUnixMs = Date.now();
		const encoder = this.#enterEncoder();
		try {
			const end = encoder.encode(record, isPlain, timeUnixMs, nowUnixMs);
			this.#push(encoder, record.level ?? Level.UNSPECIFIED, end, nowUnixMs);
		} finally {
			this.#depth -= 1;
		}
	}

	/** A value may log while it is encoded: that log must not write into the buffer of the outer one. */
	#enterEncoder(): Encoder {
		if (this.#depth === nestedLogsMax) {
			throw new RangeError("a value logs itself without end");
		}
		this.#depth += 1;
		// A new one only for the nested, which are rare.
		return this.#depth === 1 ? this.#encoder : this.#newEncoder();
	}

	#newEncoder(): Encoder {
		const { allocate, writeText } = this.#platform;
		return new Encoder(allocate, writeText, this.#redaction);
	}

	#push(encoder: Encoder, level: number, end: number, nowUnixMs: number): void {
		const { buffer, start, isTimeReplaced } = encoder;
		// The queue has a lane for each level, and for no other number.
		const known = level >= Level.TRACE && level <= Level.FATAL ? level : Level.UNSPECIFIED;
		// The program may hold the only thread in a loop: no turn would come before the queue drops.
		if (this.#hasSpool && this.#queue.isFullFor(known, end - start)) {
			this.#worker.spill();
		}
		// While the token is refused nothing leaves the queue: that is why it is full.
		const reason = this.#worker.isTokenRefused ? "auth_failed" : "queue_overflow";
		if (this.#queue.push(buffer, start, end, known, this.#now(nowUnixMs), reason)) {
			this.#worker.wake();
		}
		if (isTimeReplaced) {
			this.#notifyOnce(timeReplacedNotice);
		}
	}

	/** The clock that never jumps is dear: it is asked only if the other has moved. */
	#now(unixMs: number): number {
		if (unixMs !== this.#lastUnixMs) {
			this.#lastUnixMs = unixMs;
			this.#lastNow = this.#platform.now();
		}
		return this.#lastNow;
	}

	#endListener(): EndListener {
		let flushedThrough = -1;
		return {
			beforeEnd: () => {
				const { emitted } = this.#queue;
				if (!this.#worker.isIdle && emitted !== flushedThrough) {
					// Once for the same logs, so that the program does end.
					flushedThrough = emitted;
					void this.flush(endTimeoutMs);
				}
			},
			atEnd: () => this.#worker.finish(),
		};
	}
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
	return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function levelNumber(level: Level | LevelName): number {
	return typeof level === "number" ? level : (toLevel(level) ?? noLevel);
}

function nonNegative(timeoutMs: number): number {
	return Number.isNaN(timeoutMs) ? 0 : Math.max(0, timeoutMs);
}
