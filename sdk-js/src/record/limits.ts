/** What several places keep to: how large a text gets and how it is cut, and how deep logs may nest. */

/** One UTF-16 unit takes at most so many bytes of UTF-8. */
export const unitBytesMax = 3;

/** A text of at most so many bytes of UTF-8, cut at a character boundary. */
export function cutText(text: string, bytesMax: number): string {
	if (text.length * unitBytesMax <= bytesMax) {
		return text;
	}
	const buffer = new Uint8Array(bytesMax);
	const { read, written } = new TextEncoder().encodeInto(text, buffer);
	return read === text.length ? text : new TextDecoder().decode(buffer.subarray(0, written));
}

/** Most logs made by the values of another, one in the other. One that logs itself would never end. */
export const nestedLogsMax = 4;
