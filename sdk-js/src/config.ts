/**
 * Settings: code over `LOGWEIR_…` over `OTEL_…` over defaults.
 *
 * What the code says must be right, or the client is not made. What the environment says wrongly costs
 * one notice and the default, so that nobody's deployment breaks a program.
 */

import { dropPolicies, type QueueBounds } from "./delivery/queue.js";
import { type RetryPolicy, retryPolicyDefault } from "./delivery/retry.js";
import { ConfigError, errorText } from "./errors.js";
import type { Resource } from "./generated/logweir/v1/log_pb.js";
import { type ClientOptions, type Compression, checkNames, type TokenOption } from "./options.js";
import type { Encoding, Platform, SpoolOptions, TlsOptions } from "./platform.js";
import { Level, type LevelName, toLevel } from "./record/record.js";
import { normalized, Redaction, redactKeysDefault } from "./record/redaction.js";
import { resolveResource } from "./record/resource.js";

/** A token that can be read again. */
export interface Token {
	read(): string | undefined | Promise<string | undefined>;
}

/** Settings that are checked. */
export interface Config {
	addresses: readonly string[];
	token: Token;
	resource: Resource;
	queue: QueueBounds;
	batchRecords: number;
	batchBytes: number;
	batchDelayMs: number;
	inFlight: number;
	memoryAgeMaxMs: number;
	attemptTimeoutMs: number;
	encoding: Encoding;
	retry: RetryPolicy;
	tls: TlsOptions;
	spool: SpoolOptions | undefined;
	/** By level; undefined where all are kept. */
	sampleRates: ReadonlyMap<Level, number>;
	redactKeys: readonly string[];
	isDisabled: boolean;
	beforeSend: ClientOptions["beforeSend"];
	onRejected: ClientOptions["onRejected"];
	notice: (text: string) => void;
}

const endpointDefault = "http://127.0.0.1:4317";
/** A batch of more would be refused. */
const batchRecordsMax = 10_000;
/** Leaves room for the resource in a request of 4 MiB. */
const batchBytesMax = 3 << 20;
const inFlightMax = 64;
/** No setting is longer, so that no sum of times overflows. */
const timeMaxMs = 10 * 365 * 24 * 3_600_000;
const sizeMax = Number.MAX_SAFE_INTEGER;
const spoolBytesMaxDefault = 256 << 20;
const spoolAgeMaxMsDefault = 24 * 3_600_000;
const compressions: readonly Compression[] = ["auto", "none", "gzip", "zstd"];

/** What the platform knows that settings depend on. */
export type Facts = Pick<
	Platform,
	| "environment"
	| "readFile"
	| "hostName"
	| "processId"
	| "encoding"
	| "encodings"
	| "checkTls"
	| "printNotice"
>;

/** Settings from code, environment and defaults. Throws a `ConfigError` for what the code sets wrongly. */
export function resolveConfig(options: ClientOptions, facts: Facts): Config {
	// First, so that no other mistake hides that a setting has no effect.
	checkNames(options);
	const notice = noticeOf(options, facts);
	const environment = (name: string) => facts.environment(name) || undefined;
	// An empty variable counts as none, as for OpenTelemetry.
	const heard = { ...facts, environment };
	const source = { environment, notice };
	const addresses = addressesOf(options.endpoint, source);
	const queueRecords = size(options, "queueRecords", 1, sizeMax, () =>
		wholeNumber("OTEL_BLRP_MAX_QUEUE_SIZE", 16_384, source),
	);
	const batchRecords = size(options, "batchRecords", 1, batchRecordsMax, () =>
		wholeNumber("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512, source),
	);
	const batch = {
		// A batch that is larger than the queue would never be full.
		records: Math.min(batchRecords, queueRecords),
		bytes: size(options, "batchBytes", 1, batchBytesMax, () => 1 << 20),
	};
	const redactKeys = redactKeysOf(options.redactKeys, source);
	return {
		addresses,
		token: tokenOf(options.token, heard, notice),
		resource: resolveResource(options, heard, notice, new Redaction(redactKeys)),
		queue: {
			recordsMax: queueRecords,
			bytesMax: size(options, "queueBytes", 0, sizeMax, () => 16 << 20),
			wakeRecords: batch.records,
			wakeBytes: batch.bytes,
			urgent: urgentLevelOf(options.urgentLevel),
			policy: choice("dropPolicy", "LOGWEIR_DROP_POLICY", dropPolicies, options.dropPolicy, source),
		},
		batchRecords: batch.records,
		batchBytes: batch.bytes,
		batchDelayMs: size(options, "batchDelayMs", 0, timeMaxMs, () =>
			wholeNumber("OTEL_BLRP_SCHEDULE_DELAY", 1_000, source),
		),
		inFlight: size(options, "inFlight", 1, inFlightMax, () => 2),
		memoryAgeMaxMs: size(options, "memoryAgeMaxMs", 0, timeMaxMs, () => 300_000),
		attemptTimeoutMs: size(options, "attemptTimeoutMs", 1, timeMaxMs, () => 10_000),
		encoding: encodingOf(options.compression, addresses, facts, source),
		retry: retryOf(options.retry),
		tls: tlsOf(options.tls, facts, source),
		spool: spoolOf(options.spool, source),
		sampleRates: sampleRatesOf(options.sampleRates, source),
		redactKeys,
		isDisabled: environment("OTEL_SDK_DISABLED")?.toLowerCase() === "true",
		beforeSend: aFunction("beforeSend", options.beforeSend),
		onRejected: aFunction("onRejected", options.onRejected),
		notice,
	};
}

/** The environment, and who hears of what is wrong there. */
interface Source {
	environment: (name: string) => string | undefined;
	notice: (text: string) => void;
}

function noticeOf(options: ClientOptions, facts: Facts): (text: string) => void {
	const call = aFunction("onNotice", options.onNotice);
	return (text) => {
		try {
			if (call === undefined) {
				facts.printNotice(`logweir: ${text}`);
			} else {
				call(text);
			}
		} catch {
			// Neither a program without stderr nor one whose own function throws must fail for it.
		}
	};
}

function aFunction<T>(setting: string, value: T | undefined): T | undefined {
	if (value !== undefined && typeof value !== "function") {
		throw new ConfigError(setting, `${setting} is not a function`);
	}
	return value;
}

type SizeSetting =
	| "queueRecords"
	| "queueBytes"
	| "batchRecords"
	| "batchBytes"
	| "batchDelayMs"
	| "inFlight"
	| "memoryAgeMaxMs"
	| "attemptTimeoutMs";

/** A size, brought into its range. What is no number at all is a mistake. */
function size(
	options: ClientOptions,
	setting: SizeSetting,
	min: number,
	max: number,
	otherwise: () => number,
): number {
	return Math.min(Math.max(number(setting, options[setting]) ?? otherwise(), min), max);
}

function number(setting: string, value: number | undefined): number | undefined {
	if (value !== undefined && (typeof value !== "number" || Number.isNaN(value))) {
		throw new ConfigError(setting, `${setting} is not a number: ${String(value)}`);
	}
	return value;
}

function wholeNumber(variable: string, otherwise: number, source: Source): number {
	const text = source.environment(variable);
	if (text === undefined) {
		return otherwise;
	}
	// `Number` would take the empty text for 0, and "1e9" for a number.
	if (/^\d+$/.test(text.trim())) {
		return Number(text);
	}
	source.notice(
		`${variable}: ${JSON.stringify(text)} is not a whole number; going on with ${otherwise}`,
	);
	return otherwise;
}

/** One of some words; the first of them is the default. */
function choice<T extends string>(
	setting: string,
	variable: string,
	words: readonly T[],
	given: T | undefined,
	source: Source,
): T {
	const expected = words.join(", ");
	if (given !== undefined) {
		if (!words.includes(given)) {
			throw new ConfigError(setting, `${setting} ${JSON.stringify(given)} is none of ${expected}`);
		}
		return given;
	}
	const [first] = words as readonly [T, ...T[]];
	const text = source.environment(variable);
	const word = words.find((candidate) => candidate === text);
	if (text !== undefined && word === undefined) {
		const what = JSON.stringify(text);
		source.notice(`${variable}: ${what} is none of ${expected}; going on with ${first}`);
	}
	return word ?? first;
}

/** The addresses of a comma list, each with its scheme; undefined if one is none, or there is none. */
export function parseEndpoints(list: string): string[] | undefined {
	const names = list
		.split(",")
		.map((name) => name.trim())
		.filter((name) => name !== "");
	const addresses = names.map(parseEndpoint);
	// One that is none spoils the list: logs must not go to the rest unnoticed.
	const isGood = addresses.length > 0 && addresses.every((address) => address !== undefined);
	return isGood ? (addresses as string[]) : undefined;
}

/** `http(s)://HOST:PORT`, without anything behind it. */
const endpointForm = /^(?:https?):\/\/(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\/?$/;
const portMax = 65_535;

function parseEndpoint(name: string): string | undefined {
	const address = name.includes("://") ? name : `http://${name}`;
	const form = endpointForm.exec(address);
	const isGood = form !== null && Number(form[1] ?? 0) <= portMax;
	return isGood ? address.replace(/\/$/, "") : undefined;
}

function addressesOf(given: string | undefined, source: Source): string[] {
	const advice = "give http(s)://HOST:PORT, several separated by commas";
	if (given !== undefined) {
		const addresses = parseEndpoints(String(given));
		if (addresses === undefined) {
			const what = JSON.stringify(given);
			throw new ConfigError("endpoint", `endpoint ${what} is not usable: ${advice}`);
		}
		return addresses;
	}
	const list = source.environment("LOGWEIR_ENDPOINT");
	const addresses = parseEndpoints(list ?? endpointDefault);
	if (addresses === undefined) {
		const what = JSON.stringify(list);
		source.notice(
			`LOGWEIR_ENDPOINT: endpoint ${what} is not usable: ${advice}; going on with ${endpointDefault}`,
		);
	}
	return addresses ?? [endpointDefault];
}

const tokenForm = /^[\x21-\x7e]+$/;

/** A token without the white space around it. Throws if a header cannot carry it. */
function checkedToken(text: string): string {
	const token = text.trim();
	if (!tokenForm.test(token)) {
		throw new ConfigError(
			"token",
			"the token holds characters that cannot be sent: paste it again, or issue a new one",
		);
	}
	return token;
}

function tokenFromFile(file: string, facts: Pick<Platform, "readFile">): string {
	let text: string;
	try {
		text = facts.readFile(file);
	} catch (error) {
		const what = `cannot read the token file ${JSON.stringify(file)}: ${errorText(error)}`;
		throw new ConfigError("token", `${what}; check its path and permissions`, { cause: error });
	}
	return checkedToken(text);
}

function tokenOf(
	given: TokenOption | undefined,
	facts: Pick<Platform, "environment" | "readFile">,
	notice: (text: string) => void,
): Token {
	if (given === undefined) {
		return tokenFromEnvironment(facts, notice);
	}
	if (typeof given === "function") {
		return { read: () => fromFunction(given) };
	}
	if (typeof given === "string") {
		const token = checkedToken(given);
		return { read: () => token };
	}
	if (typeof given !== "object" || given === null || typeof given.file !== "string") {
		throw new ConfigError("token", "token is neither a text, { file } nor a function");
	}
	// Read now, so that a wrong path fails where it was written.
	tokenFromFile(given.file, facts);
	return { read: () => tokenFromFile(given.file, facts) };
}

async function fromFunction(
	read: () => string | undefined | Promise<string | undefined>,
): Promise<string | undefined> {
	const text = await read();
	return text === undefined ? undefined : checkedToken(text);
}

/**
 * The environment's token. A file may come later, or change: both are read again when the server refuses
 * the token, and what cannot be used then counts as none.
 */
function tokenFromEnvironment(
	facts: Pick<Platform, "environment" | "readFile">,
	notice: (text: string) => void,
): Token {
	const read = (): string | undefined => {
		const text = facts.environment("LOGWEIR_TOKEN");
		if (text !== undefined) {
			return checkedToken(text);
		}
		const file = facts.environment("LOGWEIR_TOKEN_FILE");
		return file === undefined ? undefined : tokenFromFile(file, facts);
	};
	const orNone = (): string | undefined => {
		try {
			return read();
		} catch {
			return undefined;
		}
	};
	try {
		read();
	} catch (error) {
		const what = errorText(error);
		notice(`LOGWEIR_TOKEN or LOGWEIR_TOKEN_FILE: ${what}; going on without a token`);
	}
	return { read: orNone };
}

function urgentLevelOf(given: LevelName | undefined): Level {
	if (given === undefined) {
		return Level.FATAL;
	}
	const level = toLevel(given);
	if (level === undefined) {
		throw new ConfigError("urgentLevel", `urgentLevel ${JSON.stringify(given)} is no level`);
	}
	return level;
}

const loopback = /^https?:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/;

function encodingOf(
	given: Compression | undefined,
	addresses: readonly string[],
	facts: Facts,
	source: Source,
): Encoding {
	const compression = choice("compression", "LOGWEIR_COMPRESSION", compressions, given, source);
	if (compression === "auto") {
		return addresses.every((address) => loopback.test(address)) ? "none" : facts.encoding;
	}
	if (!facts.encodings.includes(compression)) {
		const what = `${compression} is not to be had here`;
		if (given !== undefined) {
			throw new ConfigError("compression", `compression: ${what}; use auto`);
		}
		source.notice(`LOGWEIR_COMPRESSION: ${what}; going on with ${facts.encoding}`);
		return facts.encoding;
	}
	return compression;
}

function retryOf(given: Partial<RetryPolicy> | undefined): RetryPolicy {
	const policy = { ...retryPolicyDefault };
	for (const setting of Object.keys(policy) as (keyof RetryPolicy)[]) {
		const value = number(`retry.${setting}`, given?.[setting]) ?? policy[setting];
		// Out of range is brought into it: a wait may be 0, but never for ever.
		policy[setting] = Math.min(Math.max(value, 0), timeMaxMs);
	}
	return policy;
}

function tlsOf(given: TlsOptions | undefined, facts: Facts, source: Source): TlsOptions {
	if (given !== undefined) {
		try {
			// Now, and not at the first connection, where nobody could throw any more.
			facts.checkTls(given);
		} catch (error) {
			const what = `TLS cannot be set up: ${errorText(error)}`;
			const advice = "check the files of the CA, the certificate and the key";
			throw new ConfigError("tls", `${what}; ${advice}`, { cause: error });
		}
		return given;
	}
	const fromEnvironment = {
		caFile: source.environment("LOGWEIR_TLS_CA"),
		clientCertificateFile: source.environment("LOGWEIR_TLS_CLIENT_CERT"),
		clientKeyFile: source.environment("LOGWEIR_TLS_CLIENT_KEY"),
	};
	try {
		facts.checkTls(fromEnvironment);
		return fromEnvironment;
	} catch (error) {
		const names = "LOGWEIR_TLS_CA, LOGWEIR_TLS_CLIENT_CERT or LOGWEIR_TLS_CLIENT_KEY";
		source.notice(`${names}: ${errorText(error)}; going on with the system's CAs`);
		return {};
	}
}

function spoolOf(given: ClientOptions["spool"], source: Source): SpoolOptions | undefined {
	const spool = given ?? source.environment("LOGWEIR_SPOOL_DIR");
	if (spool === undefined) {
		return undefined;
	}
	const options: Partial<SpoolOptions> = typeof spool === "string" ? { directory: spool } : spool;
	if (typeof options.directory !== "string" || options.directory === "") {
		throw new ConfigError("spool", "spool names no directory");
	}
	const sync = options.sync ?? "interval";
	if (sync !== "interval" && sync !== "always") {
		throw new ConfigError("spool.sync", "spool.sync is neither interval nor always");
	}
	const ageMaxMs = number("spool.ageMaxMs", options.ageMaxMs) ?? spoolAgeMaxMsDefault;
	return {
		directory: options.directory,
		bytesMax: number("spool.bytesMax", options.bytesMax) ?? spoolBytesMaxDefault,
		ageMaxMs: Math.min(Math.max(ageMaxMs, 0), timeMaxMs),
		sync,
	};
}

function sampleRatesOf(
	given: ClientOptions["sampleRates"],
	source: Source,
): ReadonlyMap<Level, number> {
	const rates = new Map<Level, number>();
	if (given !== undefined) {
		for (const [name, rate] of Object.entries(given)) {
			const level = rateLevel(name);
			if (level === undefined || !isShare(rate)) {
				const what = `${name}: ${String(rate)}`;
				throw new ConfigError("sampleRates", `sampleRates ${what} is not LEVEL: 0 to 1`);
			}
			rates.set(level, rate);
		}
		return rates;
	}
	for (const pair of listOf(source.environment("LOGWEIR_SAMPLE_RATES"))) {
		const [name, rate] = pair.split("=").map((part) => part.trim());
		const level = rateLevel(name);
		if (level === undefined || rate === undefined || rate === "" || !isShare(Number(rate))) {
			source.notice(`LOGWEIR_SAMPLE_RATES: ${JSON.stringify(pair)} is not LEVEL=0 to 1; left out`);
		} else {
			rates.set(level, Number(rate));
		}
	}
	return rates;
}

function rateLevel(name: string | undefined): Level | undefined {
	const level = toLevel(name);
	return level === Level.UNSPECIFIED ? undefined : level;
}

function isShare(rate: unknown): rate is number {
	return typeof rate === "number" && rate >= 0 && rate <= 1;
}

function redactKeysOf(given: readonly string[] | undefined, source: Source): readonly string[] {
	if (given !== undefined) {
		if (!Array.isArray(given) || given.some((key) => typeof key !== "string")) {
			throw new ConfigError("redactKeys", "redactKeys is not a list of names");
		}
		return given.map(normalized);
	}
	const list = source.environment("LOGWEIR_REDACT_KEYS");
	return list === undefined ? redactKeysDefault : listOf(list).map(normalized);
}

function listOf(text: string | undefined): string[] {
	const parts = (text ?? "").split(",").map((part) => part.trim());
	return parts.filter((part) => part !== "");
}
