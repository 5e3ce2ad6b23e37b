/**
 * What a program may set. Outside of TypeScript a misspelt name would silently have no effect: it is
 * refused. Pure.
 */

import type { DropPolicy } from "./delivery/queue.js";
import type { RetryPolicy } from "./delivery/retry.js";
import { ConfigError } from "./errors.js";
import type { Encoding, SpoolOptions, TlsOptions } from "./platform.js";
import type { LevelName, LogRecord } from "./record/record.js";
import type { ResourceOptions } from "./record/resource.js";

/** Where the token comes from. A file or a function is read again when the server refuses the token. */
export type TokenOption =
	| string
	| { file: string }
	| (() => string | undefined | Promise<string | undefined>);

export type Compression = "auto" | Encoding;

/** Logs of one kind that the server rejected. */
export interface Rejection {
	/** A stable name of the rule. */
	reason: string;
	/** What the server wrote of the newest. */
	message: string;
	/** How many since the last call for this reason. */
	count: number;
}

/** A log as `beforeSend` gets it: whatever is changed is sent so. */
export type MutableLogRecord = { -readonly [field in keyof LogRecord]: LogRecord[field] };

/** Every setting has a default; most programs set none but the service. */
export interface ClientOptions extends ResourceOptions {
	/** The server's address, or several separated by commas. `http://127.0.0.1:4317`. */
	endpoint?: string | undefined;
	token?: TokenOption | undefined;
	/** How many logs may wait in memory. 16,384. */
	queueRecords?: number | undefined;
	/** How many bytes may wait in memory. 16 MiB. */
	queueBytes?: number | undefined;
	/** Who goes when the queue is full. `severity_aware`. */
	dropPolicy?: DropPolicy | undefined;
	/** Most logs of a batch. 512, at most 10,000. */
	batchRecords?: number | undefined;
	/** Most bytes of a batch. 1 MiB, at most 3 MiB. */
	batchBytes?: number | undefined;
	/** How long a log waits for others, give or take a tenth, milliseconds. 1,000. */
	batchDelayMs?: number | undefined;
	/** From this level on a log is sent at once. `fatal`. */
	urgentLevel?: LevelName | undefined;
	/** How many batches may be under way together. 2, at most 64. */
	inFlight?: number | undefined;
	/** How long a log may wait in memory, milliseconds. 300,000. */
	memoryAgeMaxMs?: number | undefined;
	/** The longest time for one attempt, milliseconds. 10,000. */
	attemptTimeoutMs?: number | undefined;
	/** `auto`: none if all addresses are loopback, else zstd where the platform has it, else gzip. */
	compression?: Compression | undefined;
	/** When to try again. */
	retry?: Partial<RetryPolicy> | undefined;
	tls?: TlsOptions | undefined;
	/** The spool's folder, or its settings; off by default. Node only. */
	spool?: string | (Partial<SpoolOptions> & { directory: string }) | undefined;
	/** The share of logs that is kept, by level. All 1. */
	sampleRates?: { readonly [level in LevelName]?: number } | undefined;
	/** Names of attributes whose values are blanked out; an empty list turns it off. */
	redactKeys?: readonly string[] | undefined;
	/**
	 * Changes a log in place; a log for which it returns false is given up. Must be synchronous: a log for
	 * which it throws or returns a promise is given up too. What it logs itself is not given to it.
	 */
	beforeSend?: ((record: MutableLogRecord) => boolean | void) | undefined;
	/** Called when the server rejected logs, once per reason and minute. Default: a line on stderr. */
	onRejected?: ((rejection: Rejection) => void) | undefined;
	/** Called with what a person should know. Default: a line on stderr. */
	onNotice?: ((text: string) => void) | undefined;
}

/** Every name of a type; the compiler finds one that is missing here, or too many. */
type Names<Options> = { readonly [name in keyof Required<Options>]: true };

const clientSettings: Names<ClientOptions> = {
	service: true,
	instance: true,
	environment: true,
	version: true,
	region: true,
	attributes: true,
	resourceDetection: true,
	endpoint: true,
	token: true,
	queueRecords: true,
	queueBytes: true,
	dropPolicy: true,
	batchRecords: true,
	batchBytes: true,
	batchDelayMs: true,
	urgentLevel: true,
	inFlight: true,
	memoryAgeMaxMs: true,
	attemptTimeoutMs: true,
	compression: true,
	retry: true,
	tls: true,
	spool: true,
	sampleRates: true,
	redactKeys: true,
	beforeSend: true,
	onRejected: true,
	onNotice: true,
};

const retrySettings: Names<RetryPolicy> = {
	firstMs: true,
	maxMs: true,
	serverDelayMaxMs: true,
	probeAfter: true,
	internalRetries: true,
	tokenFirstMs: true,
	tokenMaxMs: true,
	permissionWaitMs: true,
	permissionPauseMs: true,
};

const tlsSettings: Names<TlsOptions> = {
	caFile: true,
	clientCertificateFile: true,
	clientKeyFile: true,
};

const spoolSettings: Names<SpoolOptions> = {
	directory: true,
	bytesMax: true,
	ageMaxMs: true,
	sync: true,
};

/** Throws a `ConfigError` for the first setting that there is not, with the one that may be meant. */
export function checkNames(options: ClientOptions): void {
	check(options, clientSettings, "");
	check(options.retry, retrySettings, "retry.");
	check(options.tls, tlsSettings, "tls.");
	check(options.spool, spoolSettings, "spool.");
}

/** What is no object has no names, and is refused, or taken, where its value is read. */
function check(given: unknown, known: { readonly [name: string]: true }, prefix: string): void {
	if (typeof given !== "object" || given === null) {
		return;
	}
	const unknown = Object.keys(given).find((name) => !Object.hasOwn(known, name));
	if (unknown !== undefined) {
		throw new ConfigError(`${prefix}${unknown}`, unknownText(unknown, known, prefix));
	}
}

function unknownText(name: string, known: object, prefix: string): string {
	const meant = nearest(name, Object.keys(known));
	return `there is no setting ${prefix}${name}; did you mean ${prefix}${meant}?`;
}

/**
 * The options that a client has. For callers that get those of others as well: each further name is told,
 * but for the ones that are `expected`.
 */
export function settingsOf(
	options: object,
	expected: readonly string[],
	notice: (text: string) => void,
): ClientOptions {
	const isKnown = (name: string) => Object.hasOwn(clientSettings, name);
	const entries = Object.entries(options);
	for (const [name] of entries) {
		if (!isKnown(name) && !expected.includes(name)) {
			notice(`${unknownText(name, clientSettings, "")} It is left out`);
		}
	}
	return Object.fromEntries(entries.filter(([name]) => isKnown(name)));
}

/** The known name with the fewest letters to change; the first of several. */
function nearest(name: string, known: readonly string[]): string {
	// In lower case: the wrong case is the most frequent mistake.
	const byDistance = known.map((candidate) => ({
		candidate,
		distance: editDistance(name.toLowerCase(), candidate.toLowerCase()),
	}));
	return byDistance.reduce((best, next) => (next.distance < best.distance ? next : best)).candidate;
}

/** How many letters must be added, left out or replaced to get from one word to another (Levenshtein). */
function editDistance(from: string, to: string): number {
	let above = Array.from({ length: to.length + 1 }, (_, column) => column);
	for (let row = 1; row <= from.length; row += 1) {
		const line = [row];
		for (let column = 1; column <= to.length; column += 1) {
			const isSame = from[row - 1] === to[column - 1];
			const replaced = (above[column - 1] as number) + (isSame ? 0 : 1);
			const shorter = (line[column - 1] as number) + 1;
			line.push(Math.min(replaced, shorter, (above[column] as number) + 1));
		}
		above = line;
	}
	return above[to.length] as number;
}
