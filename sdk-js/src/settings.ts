/** The names of all settings, so that a misspelt one is refused and not silently without effect. Pure. */

import type { ClientOptions, TlsOptions } from "./config.js";
import type { RetryPolicy } from "./delivery/retry.js";
import { ConfigError } from "./errors.js";
import type { SpoolOptions } from "./platform.js";

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
