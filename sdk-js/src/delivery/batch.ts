/**
 * Batches: immutable, numbered, encoded once. A retry repeats the very bytes.
 *
 * A batch that the server does not take as it is goes on as others that follow from it alone: ids,
 * numbers and content are those that any process would come to, so that one killed halfway, and the
 * next that starts over, send the same. A pair of producer and sequence names one batch for ever,
 * because the server recognises a repeat by it once it has forgotten the batch's id.
 *
 * Logs are cut out of a batch and put into another as bytes, never decoded.
 */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { type DropCounts, type DropReason, dropReasons } from "../errors.js";
import {
	type Account,
	AccountSchema,
	type Batch,
	BatchSchema,
	DropCountSchema,
	ProducerSchema,
} from "../generated/logweir/v1/ingest_pb.js";
import type { Resource } from "../generated/logweir/v1/log_pb.js";
import { sdkName, sdkVersion } from "../version.js";

/** A batch as it goes over the wire, with what must be known about it without decoding it. */
export interface EncodedBatch {
	batchId: Uint8Array;
	producerId: Uint8Array;
	sequence: bigint;
	recordCount: number;
	createdUnixNano: bigint;
	/** The encoded `IngestRequest`. */
	request: Uint8Array;
}

/** What a producer has done since its start, and what it holds. */
export interface AccountCounts {
	emitted: number;
	dropped: DropCounts;
	/** Own logs that are in the accounts of other producers, because their batch was split. */
	moved: number;
	rejected: number;
	queued: number;
	spooled: number;
}

/** Makes 32 bytes that follow from some bytes alone. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

/** The field of `IngestRequest` that holds the batch, and of `Batch` that holds the records. */
const batchField = 1;
const recordsField = 4;
const idBytes = 16;
/** The bytes of a UUIDv7 that hold its time. */
const timeBytes = 6;
/** What an account gives as the reason for logs that are in another producer's account. */
const moved = "moved";

/** What follows from a batch, each with an id of its own. */
const Part = { firstHalf: 1, secondHalf: 2, secondProducer: 3, repaired: 4 } as const;
type Part = (typeof Part)[keyof typeof Part];

/** A batch id: UUIDv7 of a time and 10 random bytes. */
export function batchId(nowUnixNano: bigint, random: Uint8Array): Uint8Array {
	const id = new Uint8Array(idBytes);
	// 48 bits of milliseconds, above the 16 that the random bytes take next.
	new DataView(id.buffer).setBigUint64(0, (nowUnixNano / 1_000_000n) << 16n);
	id.set(random, timeBytes);
	return asVersion7(id);
}

function asVersion7(id: Uint8Array): Uint8Array {
	// Version 7 and the variant of RFC 9562.
	id[6] = ((id[6] as number) & 0x0f) | 0x70;
	id[8] = ((id[8] as number) & 0x3f) | 0x80;
	return id;
}

function derived(id: Uint8Array, part: Part, sha256: Sha256): Uint8Array {
	return sha256(concatenated([id, Uint8Array.of(part)])).slice(0, idBytes);
}

/** A batch id that follows from another, of the same time: the server tells a batch's age by it. */
function derivedBatchId(id: Uint8Array, part: Part, sha256: Sha256): Uint8Array {
	const follower = derived(id, part, sha256);
	// The server finds the age of a batch in these bytes.
	follower.set(id.subarray(0, timeBytes));
	return asVersion7(follower);
}

/** Numbers batches and fills in their account. */
export class Batcher {
	readonly #producerId: Uint8Array;
	/** The resource as a field of a batch, which all of them have in common. */
	readonly #resource: Uint8Array;
	#lastSequence = 0n;
	#lastAccount: AccountCounts = {
		emitted: 0,
		dropped: {},
		moved: 0,
		rejected: 0,
		queued: 0,
		spooled: 0,
	};

	constructor(producerId: Uint8Array, resource: Resource) {
		this.#producerId = producerId;
		this.#resource = toBinary(BatchSchema, create(BatchSchema, { resource }));
	}

	/** Builds the next batch. `records` are its logs, encoded as fields of it. */
	build(
		records: Uint8Array,
		recordCount: number,
		account: AccountCounts,
		nowUnixNano: bigint,
		random: Uint8Array,
	): EncodedBatch {
		this.#lastSequence += 1n;
		this.#lastAccount = account;
		const envelope = create(BatchSchema, {
			batchId: batchId(nowUnixNano, random),
			producer: create(ProducerSchema, {
				producerId: this.#producerId,
				sequence: this.#lastSequence,
				account: toAccount(account),
				sdkName,
				sdkVersion,
			}),
		});
		return encoded(envelope, [this.#resource, records], recordCount, nowUnixNano);
	}

	/**
	 * Whether the server knows less than this from the last batch built. What waits in the spool does
	 * not count: the server sees it arrive.
	 */
	isNews(account: AccountCounts): boolean {
		const known = this.#lastAccount;
		return (
			known.emitted !== account.emitted ||
			known.rejected !== account.rejected ||
			known.queued !== account.queued ||
			known.moved !== account.moved ||
			dropReasons.some((reason) => known.dropped[reason] !== account.dropped[reason])
		);
	}
}

/** An account on the wire. */
function toAccount(counts: AccountCounts): Account {
	const dropped = dropReasons
		.filter((reason) => counts.dropped[reason] !== undefined)
		.map((reason) => dropCount(reason, BigInt(counts.dropped[reason] ?? 0)));
	if (counts.moved > 0) {
		dropped.push(dropCount(moved, BigInt(counts.moved)));
	}
	return create(AccountSchema, {
		emitted: BigInt(counts.emitted),
		dropped,
		rejected: BigInt(counts.rejected),
		queued: BigInt(counts.queued),
		spooled: BigInt(counts.spooled),
	});
}

function dropCount(reason: string, count: bigint) {
	return create(DropCountSchema, { reason, count });
}

/** A batch of which some fields are encoded already, the logs among them. */
function encoded(
	envelope: Batch,
	fields: Uint8Array[],
	recordCount: number,
	createdUnixNano: bigint,
): EncodedBatch {
	const head = toBinary(BatchSchema, envelope);
	const bytes = fields.reduce((sum, part) => sum + part.length, head.length);
	const start = new BinaryWriter().tag(batchField, WireType.LengthDelimited).uint32(bytes).finish();
	return {
		batchId: envelope.batchId,
		producerId: envelope.producer?.producerId ?? new Uint8Array(idBytes),
		sequence: envelope.producer?.sequence ?? 0n,
		recordCount,
		createdUnixNano,
		request: concatenated([start, head, ...fields]),
	};
}

/** A batch without its logs, and these, each as a field of it. */
interface Opened {
	envelope: Batch;
	records: Uint8Array[];
}

/** Takes a batch apart; none if the bytes are damaged. */
function opened(whole: EncodedBatch): Opened | undefined {
	try {
		const body = batchBytes(whole.request);
		const records: Uint8Array[] = [];
		const others: Uint8Array[] = [];
		const reader = new BinaryReader(body);
		while (reader.pos < reader.len) {
			const start = reader.pos;
			const [field, type] = reader.tag();
			reader.skip(type, field);
			// Only what is no log is decoded: the logs are most of the bytes, and stay as they are.
			(field === recordsField ? records : others).push(body.subarray(start, reader.pos));
		}
		return { envelope: fromBinary(BatchSchema, concatenated(others)), records };
	} catch {
		return undefined;
	}
}

/** The bytes of the batch in a request. */
export function batchBytes(request: Uint8Array): Uint8Array {
	const reader = new BinaryReader(request);
	reader.tag();
	return reader.bytes();
}

/**
 * The halves of a batch that is too large; none if it cannot be split. The first keeps the number,
 * which would otherwise be a hole for ever. The second is the only batch of a producer of its own,
 * since all other numbers of the old one are given; both accounts balance.
 */
export function halves(
	whole: EncodedBatch,
	sha256: Sha256,
): [EncodedBatch, EncodedBatch] | undefined {
	const parts = opened(whole);
	if (parts === undefined || parts.records.length < 2) {
		return undefined;
	}
	const { envelope, records } = parts;
	// Rounded up, so that a half of one log is the first and the split ends.
	const middle = Math.ceil(records.length / 2);
	const movedCount = records.length - middle;
	const batchId = derivedBatchId(whole.batchId, Part.secondHalf, sha256);
	const second = create(BatchSchema, { ...envelope, batchId });
	if (envelope.producer !== undefined) {
		second.producer = create(ProducerSchema, {
			producerId: derived(whole.batchId, Part.secondProducer, sha256),
			// The only batch of its producer, so that its numbers have no hole.
			sequence: 1n,
			account: create(AccountSchema, { emitted: BigInt(movedCount) }),
			sdkName: envelope.producer.sdkName,
			sdkVersion: envelope.producer.sdkVersion,
		});
	}
	envelope.batchId = derivedBatchId(whole.batchId, Part.firstHalf, sha256);
	addDrop(envelope, moved, movedCount);
	return [
		encoded(envelope, records.slice(0, middle), middle, whole.createdUnixNano),
		encoded(second, records.slice(middle), movedCount, whole.createdUnixNano),
	];
}

/**
 * The batch under its old number, without the logs at some positions, which it says are dropped; none
 * if it is damaged.
 */
export function without(
	whole: EncodedBatch,
	positions: readonly number[],
	reason: DropReason,
	sha256: Sha256,
): EncodedBatch | undefined {
	const parts = opened(whole);
	if (parts === undefined) {
		return undefined;
	}
	const { envelope, records } = parts;
	const out = new Set(positions);
	const kept = records.filter((_, position) => !out.has(position));
	envelope.batchId = derivedBatchId(whole.batchId, Part.repaired, sha256);
	addDrop(envelope, reason, records.length - kept.length);
	return encoded(envelope, kept, kept.length, whole.createdUnixNano);
}

/** Adds to what a batch's account says was dropped. */
function addDrop(batch: Batch, reason: string, count: number): void {
	const account = batch.producer?.account;
	if (account === undefined) {
		return;
	}
	const known = account.dropped.find((drop) => drop.reason === reason);
	if (known === undefined) {
		account.dropped.push(dropCount(reason, BigInt(count)));
	} else {
		known.count += BigInt(count);
	}
}

function concatenated(parts: Uint8Array[]): Uint8Array {
	const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		whole.set(part, at);
		at += part.length;
	}
	return whole;
}
