/** Cutting texts of the resource to their limits. Logs are cut where they are encoded. */

/** A text of at most so many bytes of UTF-8, cut at a character boundary. */
export function cutText(text: string, bytesMax: number): string {
	const buffer = new Uint8Array(bytesMax);
	const { read, written } = new TextEncoder().encodeInto(text, buffer);
	return read === text.length ? text : new TextDecoder().decode(buffer.subarray(0, written));
}
