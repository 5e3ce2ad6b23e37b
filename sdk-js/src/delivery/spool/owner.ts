/** The owner of a folder of the spool: the process that writes to it, and whether that one still runs. */

import * as fs from "node:fs";

/** One start of a process, as its folder's file `owner` names it. */
export interface Owner {
	pid: number;
	/** When it started, by the system's count; empty where there is no `/proc`. */
	start: string;
	/** The boot and the namespace within which the number is unique; empty where there is no `/proc`. */
	namespace: string;
}

/** An owner that cannot be looked at, and has not renewed its file for so long, is dead. Milliseconds. */
const silenceMaxMs = 10 * 60 * 1_000;
/** The fields of `/proc/PID/stat` that hold state and start, counted from the one after the name. */
const stateField = 0;
const startField = 19;
/** States of a process that has ended, but whose parent has not asked for its result. */
const endedStates = "ZXx";
/** Errors that say of a process that it is gone, before its file is opened and while it is read. */
const goneCodes: readonly (string | undefined)[] = ["ENOENT", "ESRCH"];

/**
 * Whether a folder's owner is dead. Pure but for the look at a process of the same namespace, which
 * throws if nothing can be known of it.
 */
export function isDead(
	ownerText: string | undefined,
	ageMs: number,
	namespace: string,
	startOf: (pid: number) => string | undefined,
): boolean {
	const owner = ownerText === undefined ? undefined : parsed(ownerText);
	// Without /proc, or in another container, the number of a process says nothing.
	if (owner !== undefined && namespace !== "" && owner.namespace === namespace) {
		return startOf(owner.pid) !== owner.start;
	}
	return ageMs > silenceMaxMs;
}

function parsed(text: string): Owner | undefined {
	try {
		const { pid, start, namespace } = JSON.parse(text) as Partial<Owner>;
		const isOwner =
			typeof pid === "number" && typeof start === "string" && typeof namespace === "string";
		return isOwner ? { pid, start, namespace } : undefined;
	} catch {
		return undefined;
	}
}

/** This process. */
export function ownerHere(): Owner {
	return {
		pid: process.pid,
		start: startOf(process.pid) ?? "",
		namespace: namespaceHere(),
	};
}

/**
 * When a process started, by the system's count; undefined if there is none of this number. Throws if
 * that cannot be known, as when no more files can be opened.
 */
export function startOf(pid: number): string | undefined {
	const stat = statOf(pid);
	if (stat === undefined) {
		return undefined;
	}
	// The name before may hold blanks and brackets.
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return endedStates.includes(fields[stateField] ?? "") ? undefined : fields[startField];
}

function statOf(pid: number): string | undefined {
	try {
		return fs.readFileSync(`/proc/${pid}/stat`, "latin1");
	} catch (error) {
		if (goneCodes.includes(codeOf(error))) {
			return undefined;
		}
		throw error;
	}
}

/** The system's name of an error. */
export function codeOf(error: unknown): string | undefined {
	return (error as NodeJS.ErrnoException).code;
}

/** Numbers of processes mean the same as long as this is the same. */
function namespaceHere(): string {
	try {
		const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
		return `${boot}/${fs.readlinkSync("/proc/self/ns/pid")}`;
	} catch {
		return "";
	}
}
