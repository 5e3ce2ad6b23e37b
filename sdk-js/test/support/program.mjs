// Programs in processes of their own, which import the package by its name.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const packageFolder = fileURLToPath(new URL("../..", import.meta.url));

export function temporaryFolder(t) {
	const folder = mkdtempSync(join(tmpdir(), "logweir-sdk-js-"));
	t.after(() => rmSync(folder, { recursive: true, force: true }));
	return folder;
}

// Starts a program; `done` has its end and what it wrote.
export function startProgram(parameters, env = {}, program = process.execPath) {
	const child = spawn(program, parameters, {
		cwd: packageFolder,
		env: { ...cleanEnvironment(), ...env },
		stdio: ["ignore", "pipe", "pipe"],
	});
	const output = { stdout: "", stderr: "" };
	for (const stream of ["stdout", "stderr"]) {
		child[stream].setEncoding("utf8").on("data", (part) => {
			output[stream] += part;
		});
	}
	const done = new Promise((resolve) => {
		child.on("close", (code, signal) => resolve({ code, signal, ...output }));
	});
	return { child, output, done };
}

// Runs the text of an ES module.
export function run(source, env) {
	return startProgram(["--input-type=module", "--eval", source], env).done;
}

// Without what would reach into a program's settings.
function cleanEnvironment() {
	const kept = Object.entries(process.env).filter(
		([name]) => !/^(LOGWEIR|OTEL|NODE_TEST)_/.test(name),
	);
	return Object.fromEntries(kept);
}
