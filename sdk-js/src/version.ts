/** The name that batches carry. */
export const sdkName = "logweir-sdk-js";
/** The version that batches carry, as in package.json. */
export const sdkVersion = "0.1.0";
