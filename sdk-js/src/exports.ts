/** What the package offers on every platform. */

export type { DropPolicy } from "./delivery/queue.js";
export type { RetryPolicy } from "./delivery/retry.js";
export { ConfigError, type DropCounts, type DropReason, dropCountsText } from "./errors.js";
export type {
	ClientOptions,
	Compression,
	MutableLogRecord,
	Rejection,
	TokenOption,
} from "./options.js";
export type { SpoolOptions, TlsOptions } from "./platform.js";
export {
	type Attributes,
	Double,
	double,
	JsonText,
	json,
	Level,
	type LevelName,
	type LogRecord,
} from "./record/record.js";
export type { ResourceOptions } from "./record/resource.js";
export type { FlushReport, Stats } from "./report.js";
export { sdkVersion } from "./version.js";
