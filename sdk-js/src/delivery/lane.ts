/**
 * The waiting logs of one level, first in, first out: their encoded bytes back to back in chunks, and
 * beside them three numbers each. No object per log, so that a full queue costs the garbage collector
 * nothing and its memory is what its bounds say.
 */

const chunkBytes = 32 << 10;
/** Chunks that are kept for use again: new memory costs more than the copying. */
const sparesMax = 8;
/** Position, length and time of arrival. */
const factsPerLog = 3;
const logsFirst = 64;

/** What each waiting log takes beside its encoded bytes: its facts, in a ring that may be half empty. */
export const logOverheadBytes = 2 * factsPerLog * Float64Array.BYTES_PER_ELEMENT;

/** Gives out chunks, and takes them back. */
export class Chunks {
	readonly #allocate: (bytes: number) => Uint8Array;
	readonly #spares: Uint8Array[] = [];

	constructor(allocate: (bytes: number) => Uint8Array) {
		this.#allocate = allocate;
	}

	get(): Uint8Array {
		return this.#spares.pop() ?? this.#allocate(chunkBytes);
	}

	giveBack(chunk: Uint8Array): void {
		if (this.#spares.length < sparesMax) {
			this.#spares.push(chunk);
		}
	}
}

/** The first logs of a lane that go into a batch together. */
export interface Run {
	count: number;
	bytes: number;
}

export class Lane {
	readonly #source: Chunks;
	#chunks: Uint8Array[] = [];
	/** Where the first log begins in the first chunk, and where the next goes in the last. */
	#readAt = 0;
	#writeAt = 0;
	#facts = new Float64Array(logsFirst * factsPerLog);
	#first = 0;
	#count = 0;

	constructor(source: Chunks) {
		this.#source = source;
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

	/** Adds a log, which is a part of a buffer. */
	push(source: Uint8Array, start: number, end: number, position: number, arrivedAt: number): void {
		if (this.#count * factsPerLog === this.#facts.length) {
			this.#growFacts();
		}
		const at = this.#factAt(this.#count, 0);
		this.#facts[at] = position;
		this.#facts[at + 1] = end - start;
		this.#facts[at + 2] = arrivedAt;
		this.#count += 1;
		this.#write(source, start, end);
	}

	/** How many of the first logs arrived before a position, and fit together. */
	run(before: number, recordsMax: number, bytesMax: number): Run {
		const run = { count: 0, bytes: 0 };
		const most = Math.min(this.#count, recordsMax);
		while (run.count < most) {
			const at = this.#factAt(run.count, 0);
			const bytes = run.bytes + (this.#facts[at + 1] as number);
			if ((this.#facts[at] as number) >= before || bytes > bytesMax) {
				break;
			}
			run.bytes = bytes;
			run.count += 1;
		}
		return run;
	}

	/** Removes the first logs, and copies them to a place that has room for them, if one is given. */
	take(run: Run, target?: Uint8Array, at = 0): void {
		this.#read(run.bytes, target, at);
		this.#count -= run.count;
		this.#first += run.count;
		const logs = this.#facts.length / factsPerLog;
		// A modulo costs more than this at each log.
		if (this.#first >= logs) {
			this.#first -= logs;
		}
		if (this.#count === 0 && this.#chunks.length === 1) {
			// The last chunk begins anew, rather than to run out.
			this.#readAt = 0;
			this.#writeAt = 0;
		}
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
		this.#chunks.length = 0;
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
		// The ring is laid out straight, so that the first log is at its beginning again.
		grown.set(this.#facts.subarray(start));
		grown.set(this.#facts.subarray(0, start), this.#facts.length - start);
		this.#facts = grown;
		this.#first = 0;
	}

	#write(source: Uint8Array, start: number, end: number): void {
		let from = start;
		while (from < end) {
			let chunk = this.#chunks[this.#chunks.length - 1];
			if (chunk === undefined || this.#writeAt === chunk.length) {
				chunk = this.#source.get();
				this.#chunks.push(chunk);
				this.#writeAt = 0;
			}
			const part = Math.min(end - from, chunk.length - this.#writeAt);
			// A log may be spread over two chunks, so that none has a hole at its end.
			chunk.set(partOf(source, from, part), this.#writeAt);
			this.#writeAt += part;
			from += part;
		}
	}

	#read(bytes: number, target: Uint8Array | undefined, at: number): void {
		let left = bytes;
		while (left > 0) {
			const chunk = this.#chunks[0] as Uint8Array;
			const part = Math.min(left, chunk.length - this.#readAt);
			target?.set(partOf(chunk, this.#readAt, part), at + bytes - left);
			this.#readAt += part;
			left -= part;
			if (this.#readAt === chunk.length) {
				this.#chunks.shift();
				this.#source.giveBack(chunk);
				this.#readAt = 0;
			}
		}
	}
}

/** A part of a buffer; quicker than the `subarray` of Node's own kind of buffer. */
function partOf(buffer: Uint8Array, from: number, length: number): Uint8Array {
	return new Uint8Array(buffer.buffer, buffer.byteOffset + from, length);
}
