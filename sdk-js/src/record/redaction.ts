/** Whose values are blanked out: attributes by their names, and JSON text that has such a name. */

/** Names that are redacted unless the program gives its own list. */
export const redactKeysDefault: readonly string[] = [
	"password",
	"passwd",
	"secret",
	"api_key",
	"apikey",
	"access_token",
	"refresh_token",
	"auth_token",
	"authorization",
	"cookie",
	"set_cookie",
	"private_key",
	"credentials",
];

/** What stands in the place of a redacted value. */
export const redacted = "[redacted]";

/** The form in which names are compared. */
export function normalized(name: string): string {
	return name.toLowerCase().replaceAll("-", "_");
}

export class Redaction {
	readonly #ends: RegExp | undefined;
	readonly #inJson: RegExp | undefined;

	constructor(keys: readonly string[]) {
		const names = keys.map(normalized).filter((name) => name !== "");
		if (names.length === 0) {
			return;
		}
		const any = names.map((name) => escaped(name).replaceAll("_", "[_-]")).join("|");
		this.#ends = new RegExp(`(?:^|[._-])(?:${any})$`, "i");
		// With the colon that follows a name: a value that reads the same hides nothing.
		this.#inJson = new RegExp(`"(?:[^"\\\\]*[._-])?(?:${any})"\\s*:`, "i");
	}

	/** Whether the value of an attribute of this name must not be sent. */
	hides(name: string): boolean {
		return this.#ends?.test(name) ?? false;
	}

	/** Whether JSON text has such a name anywhere. */
	hidesJson(text: string): boolean {
		return this.#inJson?.test(text) ?? false;
	}
}

function escaped(name: string): string {
	return name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
