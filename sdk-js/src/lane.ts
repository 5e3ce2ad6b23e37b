/**
 * The waiting logs of one level, first in, first out: their encoded bytes back to back in chunks, and
 * beside them three numbers each. No object per log, so that a full queue costs the garbage collector
 * nothing and its memory is what its bounds say.
 */

const chunkBytes = 32 << 10;
/** Position, length and time of arrival. */
const factsPerLog = 3;
const logsFirst = 64;

/** What each waiting log takes beside its encoded bytes: its facts, in a ring that may be half empty. */
export const logOverheadBytes = 2 * factsPerLog * Float64Array.BYTES_PER_ELEMENT;

export class Lane {
	readonly #allocate: (bytes: number) => Uint8Array;
	#chunks: Uint8Array[] = [];
	/** Where the first log begins in the first chunk, and where the next goes in the last. */
	#readAt = 0;
	#writeAt = 0;
	#facts = new Float64Array(logsFirst * factsPerLog);
	#first = 0;
	#count = 0;

	constructor(allocate: (bytes: number) => Uint8Array) {
		this.#allocate = allocate;
	}

	get length(): number {
		return this.#count;
	}

	/** The number that the first log got when it arrived; infinite if there is none. */
	get position(): number {
		return this.#count === 0 ? Number.POSITIVE_INFINITY : this.#fact(0, 0);
	}

	/** Encoded size of the first log, bytes. */
	get bytes(): number {
		return this.#fact(0, 1);
	}

	/** When the first log arrived, milliseconds of a clock that never jumps. */
	get arrivedAt(): number {
		return this.#fact(0, 2);
	}

	push(source: Uint8Array, length: number, position: number, arrivedAt: number): void {
		if (this.#count * factsPerLog === this.#facts.length) {
			this.#growFacts();
		}
		const at = this.#factAt(this.#count, 0);
		this.#facts[at] = position;
		this.#facts[at + 1] = length;
		this.#facts[at + 2] = arrivedAt;
		this.#count += 1;
		this.#write(source, length);
	}

	/** Removes the first log. */
	drop(): void {
		this.#read(undefined, 0);
	}

	/** Moves the first log to a place that has room for it. */
	take(target: Uint8Array, at: number): void {
		this.#read(target, at);
	}

	/** How many wait that arrived before a position. */
	lengthBefore(position: number): number {
		let low = 0;
		let high = this.#count;
		while (low < high) {
			const middle = (low + high) >> 1;
			if (this.#fact(middle, 0) < position) {
				low = middle + 1;
			} else {
				high = middle;
			}
		}
		return low;
	}

	clear(): void {
		this.#chunks = [];
		this.#readAt = 0;
		this.#writeAt = 0;
		this.#facts = new Float64Array(logsFirst * factsPerLog);
		this.#first = 0;
		this.#count = 0;
	}

	#factAt(log: number, fact: number): number {
		const logs = this.#facts.length / factsPerLog;
		const at = this.#first + log;
		return (at < logs ? at : at - logs) * factsPerLog + fact;
	}

	#fact(log: number, fact: number): number {
		return this.#facts[this.#factAt(log, fact)] as number;
	}

	#growFacts(): void {
		const grown = new Float64Array(this.#facts.length * 2);
		const start = this.#first * factsPerLog;
		grown.set(this.#facts.subarray(start));
		grown.set(this.#facts.subarray(0, start), this.#facts.length - start);
		this.#facts = grown;
		this.#first = 0;
	}

	#write(source: Uint8Array, length: number): void {
		let from = 0;
		while (from < length) {
			let chunk = this.#chunks[this.#chunks.length - 1];
			if (chunk === undefined || this.#writeAt === chunk.length) {
				chunk = this.#allocate(chunkBytes);
				this.#chunks.push(chunk);
				this.#writeAt = 0;
			}
			const part = Math.min(length - from, chunk.length - this.#writeAt);
			copy(source, from, chunk, this.#writeAt, part);
			this.#writeAt += part;
			from += part;
		}
	}

	#read(target: Uint8Array | undefined, at: number): void {
		let left = this.bytes;
		let to = at;
		while (left > 0) {
			const chunk = this.#chunks[0] as Uint8Array;
			const part = Math.min(left, chunk.length - this.#readAt);
			if (target !== undefined) {
				copy(chunk, this.#readAt, target, to, part);
			}
			this.#readAt += part;
			to += part;
			left -= part;
			if (this.#readAt === chunk.length) {
				this.#chunks.shift();
				this.#readAt = 0;
			}
		}
		this.#forgetFirst();
	}

	#forgetFirst(): void {
		this.#count -= 1;
		this.#first += 1;
		if (this.#first * factsPerLog === this.#facts.length) {
			this.#first = 0;
		}
		if (this.#count === 0 && this.#chunks.length === 1) {
			// The last chunk begins anew, rather than to run out.
			this.#readAt = 0;
			this.#writeAt = 0;
		}
	}
}

/** Below this a loop is quicker than the call that copies. */
const loopBytesMax = 96;

export function copy(
	source: Uint8Array,
	from: number,
	target: Uint8Array,
	to: number,
	length: number,
): void {
	if (length <= loopBytesMax) {
		for (let index = 0; index < length; index += 1) {
			target[to + index] = source[from + index] as number;
		}
		return;
	}
	target.set(source.subarray(from, from + length), to);
}
