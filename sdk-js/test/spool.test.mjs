// The spool on a disk that fails, and owners that are taken for dead.
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Spool } from "../dist/esm/spool.js";
import { startProgram, temporaryFolder } from "./support/program.mjs";

const unlimited = { bytesMax: 1 << 28, ageMaxMs: 86_400_000, sync: "interval" };

test("a process that cannot be looked at is not gone", async () => {
	const program = `
		import { openSync } from "node:fs";
		import { startOf } from "./dist/esm/spool-owner.js";
		const error = (action) => { try { action(); } catch ({ code }) { return code; } };
		const opened = () => openSync("/dev/null");
		while (error(opened) === undefined);
		console.log(error(() => startOf(process.pid)));`;
	const limited = 'ulimit -n 256 && exec "$0" --input-type=module --eval "$1"';
	const { done } = startProgram(["-c", limited, process.execPath, program], {}, "sh");
	assert.deepEqual(await done, { code: 0, signal: null, stdout: "EMFILE\n", stderr: "" });
});

test("a folder whose owner cannot be read is left alone, however old it is", async (t) => {
	const directory = temporaryFolder(t);
	const folder = join(directory, "0123456789abcdef");
	mkdirSync(join(folder, "owner"), { recursive: true });
	utimesSync(folder, new Date(0), new Date(0));
	const spool = new Spool({ directory, ...unlimited });
	await spool.adopt(() => {});
	spool.close();
	assert.deepEqual(readdirSync(directory), ["0123456789abcdef"]);
});
