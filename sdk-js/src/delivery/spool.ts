/**
 * The spool: batches on disk until the server has them, so that they survive `kill -9`.
 *
 * Each client has a folder of its own under the spool's root. A batch is appended to the folder's newest
 * segment before it is sent; when it is done with, a mark goes into the file beside the segment, and a
 * segment whose batches are all done with is deleted. At the start, and every minute, a client takes
 * over the folders whose owners are dead, and sends their batches under their own ids.
 *
 * Writes go to the system's cache and are synchronous, since they take less time than to hand them to
 * another thread; forcing them to disk, and reading what the dead left, is done beside the program.
 *
 * A damaged segment loses only what is damaged; it is kept aside as `*.corrupt` (the newest few) once
 * the rest is sent. A lost mark costs one harmless resend. No failure here reaches the program: the
 * client then goes on in memory.
 */

import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import type { Adopted, FrameRef, SpoolFiles, SpoolOptions } from "../platform.js";
import type { EncodedBatch } from "./batch.js";
import { decodeFrame, decodeMarks, encodeMark, frameHead, salt, scan } from "./spool/frame.js";
import { codeOf, isDead, type Owner, ownerHere, startOf } from "./spool/owner.js";

/** A segment is closed at this size, bytes. */
const segmentBytes = 8 << 20;
/** No segment of ours is larger than this: one more batch than [segmentBytes]. */
const segmentBytesMax = 32 << 20;
/** How many damaged segments are kept for a person to look at. */
const corruptKeptMax = 4;
/** Most batches in a spool: each costs a few bytes of memory. */
const framesMax = 1 << 16;
/** Reading what the dead left lets the program run after so long. */
const sliceMs = 2;
const ownerFile = "owner";
/** A number that no process has. */
const noProcess = 0;
const adoptedFolder = "adopted";
const folderName = /^[0-9a-f]{16}$/;
const folderMode = 0o700;
const fileMode = 0o600;
/** A new folder may be taken for an abandoned one before it has its owner; then another is made. */
const creationTries = 8;

interface Folder {
	path: string;
	salt: number;
}

interface Segment {
	folder: Folder;
	path: string;
	bytes: number;
	/** Batches not done with. */
	waiting: number;
	/** No more is appended. */
	isSealed: boolean;
	isDamaged: boolean;
}

/** The segment that is appended to. */
interface Active {
	id: number;
	file: number;
	needsSync: boolean;
}

export class Spool implements SpoolFiles {
	readonly #options: SpoolOptions;
	readonly #owner: Owner;
	readonly #folders = new Set<Folder>();
	/** In the order in which they were opened. */
	readonly #segments = new Map<number, Segment>();
	#own: Folder;
	#active: Active | undefined;
	#nextSegment = 0;
	#bytes = 0;
	#waiting = 0;
	#isAdopting = false;
	#isClosed = false;
	/** Runs of bytes that were lost to damage. */
	damagedRuns = 0;

	/** Opens this client's folder. Throws if that cannot be. */
	constructor(options: SpoolOptions) {
		this.#options = options;
		this.#owner = ownerHere();
		fs.mkdirSync(options.directory, { recursive: true, mode: folderMode });
		this.#own = this.#createFolder();
	}

	/** Writes a batch, forced to disk if the options say so. */
	append(batch: EncodedBatch): FrameRef {
		const active = this.#activeSegment();
		const segment = this.#segments.get(active.id) as Segment;
		const head = frameHead(segment.folder.salt, batch);
		const length = head.length + batch.request.length;
		try {
			writeAll(active.file, [head, batch.request]);
			// Also if what follows fails: the bytes are in the file.
			active.needsSync = true;
			if (this.#options.sync === "always") {
				this.#syncNow(active);
			}
		} catch (error) {
			// What was written of it is passed over as a frame cut off.
			this.#seal();
			throw error;
		}
		const frame = { segment: active.id, offset: segment.bytes, length };
		segment.bytes += length;
		segment.waiting += 1;
		this.#bytes += length;
		this.#waiting += 1;
		return frame;
	}

	/** Reads a batch back. Throws if it is damaged by now, or deleted. */
	read(frame: FrameRef): EncodedBatch {
		const segment = this.#segments.get(frame.segment);
		if (segment === undefined) {
			throw new Error("the batch is gone from the spool");
		}
		const bytes = readAt(segment.path, frame.offset, frame.length);
		// Checked again: a disk may damage what was sound when it was written.
		const found = decodeFrame(segment.folder.salt, bytes, 0);
		if (found === undefined) {
			this.damagedRuns += 1;
			segment.isDamaged = true;
			throw new Error("the batch is damaged on disk");
		}
		return found.batch;
	}

	/** Marks a batch as done with. An error costs a harmless resend after a restart. */
	acknowledge(frame: FrameRef): void {
		const segment = this.#segments.get(frame.segment);
		if (segment === undefined) {
			return;
		}
		segment.waiting -= 1;
		this.#waiting -= 1;
		if (segment.waiting === 0 && segment.isSealed) {
			this.#deleteSegment(frame.segment);
			return;
		}
		const mark = encodeMark(segment.folder.salt, frame.offset);
		// Appended and not rewritten: a crash costs the last mark at most.
		fs.appendFileSync(marksOf(segment.path), mark, { mode: fileMode });
	}

	/** Deletes the oldest segment if the spool is over its bounds; its number if so. */
	evict(): number | undefined {
		if (this.#bytes <= this.#options.bytesMax && this.#waiting <= framesMax) {
			return undefined;
		}
		const [oldest] = this.#segments.keys();
		if (oldest === undefined) {
			return undefined;
		}
		// Nothing may be appended to a file that is about to be deleted.
		if (this.#active?.id === oldest) {
			this.#seal();
		}
		this.#deleteSegment(oldest);
		return oldest;
	}

	get needsSync(): boolean {
		return this.#active?.needsSync ?? false;
	}

	/** Forces what was written to disk, beside the program. */
	async sync(): Promise<void> {
		const active = this.#active;
		if (active === undefined || !active.needsSync) {
			return;
		}
		active.needsSync = false;
		try {
			// A write during the sync sets the mark again, and has another of its own.
			await syncFile(this.#pathOf(active.id));
		} catch (error) {
			// One that is done with by then, or another's, need not be on disk.
			if (this.#segments.has(active.id)) {
				throw error;
			}
		}
	}

	/** Says that the owner lives. */
	renew(): void {
		const now = new Date();
		fs.utimesSync(path.join(this.#own.path, ownerFile), now, now);
	}

	get isTaken(): boolean {
		try {
			fs.statSync(path.join(this.#own.path, ownerFile));
			return false;
		} catch (error) {
			return codeOf(error) === "ENOENT";
		}
	}

	/** Begins anew with an empty folder. What was in the old one is another's. */
	startOver(): void {
		const active = this.#active;
		this.#active = undefined;
		this.#segments.clear();
		this.#folders.clear();
		this.#bytes = 0;
		this.#waiting = 0;
		if (active !== undefined) {
			fs.closeSync(active.file);
		}
		this.#own = this.#createFolder();
	}

	/** Takes over the folders of dead processes; of each, the oldest batches come first. */
	async adopt(take: (adopted: Adopted) => void): Promise<void> {
		if (this.#isAdopting) {
			return;
		}
		this.#isAdopting = true;
		try {
			for (const name of this.#namesInRoot()) {
				if (!this.#isClosed) {
					await this.#adoptIfDead(name, take);
				}
			}
		} finally {
			this.#isAdopting = false;
		}
	}

	/** Forces everything to disk and deletes what is done with. */
	close(): void {
		this.#isClosed = true;
		if (this.#active !== undefined) {
			this.#syncNow(this.#active);
		}
		this.#seal();
		for (const [id, segment] of [...this.#segments]) {
			if (segment.waiting === 0) {
				this.#deleteSegment(id);
			}
		}
		this.#deleteFolderIfEmpty(this.#own);
		this.#leaveToOthers();
	}

	/** What is left may be taken over, also by another client of this process. */
	#leaveToOthers(): void {
		if (this.#folders.has(this.#own)) {
			const line = `${JSON.stringify({ ...this.#owner, pid: noProcess })}\n`;
			fs.writeFileSync(path.join(this.#own.path, ownerFile), line);
		}
	}

	#pathOf(segment: number): string {
		return path.join(this.#own.path, `${String(segment).padStart(10, "0")}.seg`);
	}

	#createFolder(): Folder {
		for (let attempt = 1; ; attempt += 1) {
			const name = randomBytes(8).toString("hex");
			const folder = { path: path.join(this.#options.directory, name), salt: salt(name) };
			try {
				// Logs are nobody else's business.
				fs.mkdirSync(folder.path, { mode: folderMode });
				const line = `${JSON.stringify(this.#owner)}\n`;
				fs.writeFileSync(path.join(folder.path, ownerFile), line, { mode: fileMode });
				this.#folders.add(folder);
				return folder;
			} catch (error) {
				if (attempt === creationTries) {
					throw error;
				}
			}
		}
	}

	/** The segment to append to. */
	#activeSegment(): Active {
		const active = this.#active;
		if (active !== undefined && (this.#segments.get(active.id)?.bytes ?? 0) < segmentBytes) {
			return active;
		}
		if (active !== undefined) {
			this.#syncBeside(active.id);
			this.#seal();
		}
		return this.#newSegment();
	}

	#newSegment(): Active {
		const id = this.#nextSegment;
		// `x`: a file that is there already is somebody else's.
		const file = fs.openSync(this.#pathOf(id), "ax", fileMode);
		this.#nextSegment += 1;
		this.#active = { id, file, needsSync: false };
		this.#segments.set(id, segmentOf(this.#own, this.#pathOf(id)));
		if (this.#options.sync === "always") {
			syncFolder(this.#own.path);
		}
		return this.#active;
	}

	#syncNow(active: Active): void {
		fs.fdatasyncSync(active.file);
		active.needsSync = false;
	}

	/** Should this fail, the segment can still be read and sent: only a power cut would show it. */
	#syncBeside(segment: number): void {
		fs.open(this.#pathOf(segment), "r", (error, file) => {
			if (error === null) {
				fs.fdatasync(file, () => fs.close(file));
			}
		});
	}

	/** Appends no more to the active segment. */
	#seal(): void {
		const active = this.#active;
		if (active === undefined) {
			return;
		}
		this.#active = undefined;
		fs.closeSync(active.file);
		const segment = this.#segments.get(active.id);
		if (segment !== undefined) {
			segment.isSealed = true;
			if (segment.waiting === 0) {
				this.#deleteSegment(active.id);
			}
		}
	}

	#forgetSegment(id: number, segment: Segment): void {
		this.#segments.delete(id);
		this.#bytes -= segment.bytes;
		this.#waiting -= segment.waiting;
	}

	/** Deletes a segment, then its marks: the other way round, a crash between would send it all again. */
	#deleteSegment(id: number): void {
		const segment = this.#segments.get(id);
		if (segment === undefined) {
			return;
		}
		this.#forgetSegment(id, segment);
		try {
			if (segment.isDamaged) {
				this.#keepAside(segment);
			} else {
				fs.unlinkSync(segment.path);
			}
			// A segment that cannot be deleted keeps its marks.
			fs.rmSync(marksOf(segment.path), { force: true });
		} catch {
			return;
		}
		if (segment.folder !== this.#own) {
			this.#deleteFolderIfEmpty(segment.folder);
		}
	}

	/** Keeps a damaged segment for a person to look at, and only the newest few of those. */
	#keepAside(segment: Segment): void {
		const { directory } = this.#options;
		const folder = path.basename(segment.folder.path);
		const name = `${folder}-${path.basename(segment.path, ".seg")}.corrupt`;
		fs.renameSync(segment.path, path.join(directory, name));
		const kept = fs
			.readdirSync(directory)
			.filter((file) => file.endsWith(".corrupt"))
			.map((file) => ({ file, at: fs.statSync(path.join(directory, file)).mtimeMs }))
			.sort((one, other) => other.at - one.at);
		for (const { file } of kept.slice(corruptKeptMax)) {
			fs.unlinkSync(path.join(directory, file));
		}
	}

	#deleteFolderIfEmpty(folder: Folder): void {
		if ([...this.#segments.values()].some((segment) => segment.folder === folder)) {
			return;
		}
		this.#folders.delete(folder);
		removeFolder(folder.path);
	}

	#namesInRoot(): string[] {
		try {
			const names = fs.readdirSync(this.#options.directory);
			return names.filter((name) => folderName.test(name)).sort();
		} catch {
			return [];
		}
	}

	async #adoptIfDead(name: string, take: (adopted: Adopted) => void): Promise<void> {
		const found = path.join(this.#options.directory, name);
		if (found === this.#own.path || !this.#isDeadAndOfOurUser(found)) {
			return;
		}
		if (fs.readdirSync(found).length === 0) {
			removeFolder(found);
			return;
		}
		if (!this.#hasRoomFor(found)) {
			return;
		}
		for (const folder of this.#takeOver(found, name)) {
			await this.#adoptFolder(folder, take);
		}
	}

	/** Whether it is a folder, nobody else can have put logs into it for us to send, and it is dead. */
	#isDeadAndOfOurUser(found: string): boolean {
		try {
			// A link is no folder: it could lead to anybody's files.
			const there = fs.lstatSync(found);
			if (!there.isDirectory() || there.uid !== fs.statSync(this.#own.path).uid) {
				return false;
			}
			const owner = readIfThere(path.join(found, ownerFile));
			const age = Date.now() - (owner?.modifiedMs ?? there.mtimeMs);
			return isDead(owner?.text, age, this.#owner.namespace, startOf);
		} catch {
			// It went away, is another's, or cannot be looked at now.
			return false;
		}
	}

	/**
	 * What does not fit waits for the next time, so that nothing is given up to take it over. One that
	 * never would fit is taken over alone.
	 */
	#hasRoomFor(found: string): boolean {
		if (this.#waiting === 0) {
			return true;
		}
		const folders = [found, ...foldersIn(path.join(found, adoptedFolder))];
		const bytes = folders.flatMap(segmentsIn).reduce((sum, file) => sum + sizeOf(file), 0);
		return this.#bytes + bytes <= this.#options.bytesMax && this.#waiting < framesMax;
	}

	/** Moves a dead folder, and those that it had taken over, into ours. Only one process can. */
	#takeOver(found: string, name: string): Folder[] {
		const adopted = path.join(this.#own.path, adoptedFolder);
		const target = path.join(adopted, name);
		try {
			// The folder of what was taken over is made at the first.
			fs.mkdirSync(adopted, { recursive: true, mode: folderMode });
			// Atomic: of two processes that try, one finds the folder gone.
			fs.renameSync(found, target);
		} catch {
			return [];
		}
		const inner = foldersIn(path.join(target, adoptedFolder)).map((from) => {
			const to = path.join(adopted, path.basename(from));
			fs.renameSync(from, to);
			return to;
		});
		return [target, ...inner].map((folder) => ({
			path: folder,
			salt: salt(path.basename(folder)),
		}));
	}

	async #adoptFolder(folder: Folder, take: (adopted: Adopted) => void): Promise<void> {
		this.#folders.add(folder);
		for (const file of segmentsIn(folder.path)) {
			try {
				await this.#adoptSegment(folder, file, take);
			} catch {
				// One that cannot be read is left where it is, and so is its folder.
				this.damagedRuns += this.#folders.has(folder) ? 1 : 0;
			}
		}
		this.#deleteFolderIfEmpty(folder);
	}

	async #adoptSegment(
		folder: Folder,
		file: string,
		take: (adopted: Adopted) => void,
	): Promise<void> {
		const data = await readUpTo(file, segmentBytesMax);
		const done = decodeMarks(folder.salt, readIfThere(marksOf(file))?.bytes ?? new Uint8Array());
		const { frames, damagedRuns } = await inSlices(scan(folder.salt, data));
		if (!this.#folders.has(folder)) {
			// Meanwhile another took it over, with our own.
			return;
		}
		const id = this.#nextSegment;
		this.#nextSegment += 1;
		this.damagedRuns += damagedRuns;
		// Without marks everything is sent again, which doubles nothing.
		const waiting = frames.filter(({ offset }) => !done.has(offset));
		const segment = {
			...segmentOf(folder, file),
			bytes: data.length,
			waiting: waiting.length,
			isSealed: true,
			isDamaged: damagedRuns > 0,
		};
		this.#segments.set(id, segment);
		this.#bytes += segment.bytes;
		this.#waiting += segment.waiting;
		if (waiting.length === 0) {
			this.#deleteSegment(id);
		}
		for (const { offset, length, recordCount } of waiting) {
			take({ frame: { segment: id, offset, length }, recordCount });
		}
	}
}

function segmentOf(folder: Folder, file: string): Segment {
	return { folder, path: file, bytes: 0, waiting: 0, isSealed: false, isDamaged: false };
}

/** Where a batch lies in a segment, without its bytes. */
interface Found {
	offset: number;
	length: number;
	recordCount: number;
}

/** Runs a scan in slices that leave the program room to run. */
async function inSlices(
	found: ReturnType<typeof scan>,
): Promise<{ frames: Found[]; damagedRuns: number }> {
	const frames: Found[] = [];
	let sliceEnd = performance.now() + sliceMs;
	for (;;) {
		const next = found.next();
		if (next.done === true) {
			return { frames, damagedRuns: next.value };
		}
		const { offset, length, batch } = next.value;
		frames.push({ offset, length, recordCount: batch.recordCount });
		if (performance.now() > sliceEnd) {
			await new Promise((resolve) => setImmediate(resolve));
			sliceEnd = performance.now() + sliceMs;
		}
	}
}

function marksOf(segmentPath: string): string {
	return segmentPath.replace(/\.seg$/, ".ack");
}

function writeAll(file: number, parts: Uint8Array[]): void {
	const bytes = parts.reduce((sum, part) => sum + part.length, 0);
	// One call for head and request, so that a crash leaves at most one frame cut off.
	const written = fs.writevSync(file, parts);
	if (written !== bytes) {
		throw new Error(`the disk took ${written} of ${bytes} bytes`);
	}
}

function readAt(file: string, offset: number, length: number): Uint8Array {
	const handle = fs.openSync(file, "r");
	try {
		const bytes = new Uint8Array(length);
		const read = fs.readSync(handle, bytes, 0, length, offset);
		return bytes.subarray(0, read);
	} finally {
		fs.closeSync(handle);
	}
}

async function readUpTo(file: string, bytesMax: number): Promise<Uint8Array> {
	const handle = await fs.promises.open(file, "r");
	try {
		const size = Math.min((await handle.stat()).size, bytesMax);
		const bytes = new Uint8Array(size);
		const { bytesRead } = await handle.read(bytes, 0, size, 0);
		return bytes.subarray(0, bytesRead);
	} finally {
		await handle.close();
	}
}

interface SmallFile {
	bytes: Uint8Array;
	text: string;
	modifiedMs: number;
}

function readIfThere(file: string): SmallFile | undefined {
	try {
		const bytes = fs.readFileSync(file);
		return { bytes, text: bytes.toString("utf8"), modifiedMs: fs.statSync(file).mtimeMs };
	} catch (error) {
		if (codeOf(error) === "ENOENT") {
			return undefined;
		}
		throw error;
	}
}

function sizeOf(file: string): number {
	return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function segmentsIn(folder: string): string[] {
	try {
		const names = fs.readdirSync(folder).filter((name) => name.endsWith(".seg"));
		return names.sort().map((name) => path.join(folder, name));
	} catch {
		return [];
	}
}

function foldersIn(folder: string): string[] {
	try {
		const entries = fs.readdirSync(folder, { withFileTypes: true });
		const folders = entries.filter((entry) => entry.isDirectory() && folderName.test(entry.name));
		return folders.map((entry) => path.join(folder, entry.name)).sort();
	} catch {
		return [];
	}
}

/** Through another handle than the one that writes, since that may be closed meanwhile. */
async function syncFile(file: string): Promise<void> {
	const handle = await fs.promises.open(file, "r");
	try {
		await handle.datasync();
	} finally {
		await handle.close();
	}
}

function syncFolder(folder: string): void {
	const handle = fs.openSync(folder, "r");
	try {
		fs.fsyncSync(handle);
	} finally {
		fs.closeSync(handle);
	}
}

/** Removes a folder without segments; one with anything unknown in it stays. */
function removeFolder(folder: string): void {
	try {
		if (segmentsIn(folder).length > 0 || foldersIn(path.join(folder, adoptedFolder)).length > 0) {
			return;
		}
		for (const name of fs.readdirSync(folder)) {
			if (name === adoptedFolder) {
				fs.rmdirSync(path.join(folder, name));
			} else if (name.endsWith(".ack")) {
				fs.unlinkSync(path.join(folder, name));
			}
		}
		// The owner goes last: without it the folder would be anybody's.
		fs.rmSync(path.join(folder, ownerFile), { force: true });
		fs.rmdirSync(folder);
	} catch {
		// It is not empty, or not ours: it stays.
	}
}
