/** What the package offers on every platform. */

export type { Stats } from "./client.js";
export type {
	ClientOptions,
	Compression,
	MutableLogRecord,
	Rejection,
	TlsOptions,
	TokenOption,
} from "./config.js";
export { ConfigError, type DropCounts, type DropReason, dropCountsText } from "./errors.js";
export type { SpoolOptions } from "./platform.js";
export type { DropPolicy } from "./queue.js";
export {
	type Attributes,
	Double,
	double,
	JsonText,
	json,
	Level,
	type LevelName,
	type LogRecord,
} from "./record.js";
export type { ResourceOptions } from "./resource.js";
export type { RetryPolicy } from "./retry.js";
export { sdkVersion } from "./version.js";
export type { FlushReport } from "./worker/wait.js";
