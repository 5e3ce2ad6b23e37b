// The real server: the binary that LOGWEIR_BINARY names.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { temporaryFolder } from "./program.mjs";
import { until } from "./wait.mjs";

const binary = process.env.LOGWEIR_BINARY;
assert.ok(binary, "LOGWEIR_BINARY names the server's binary");

// Calls the server's own command line, and returns what it prints.
export function logweir(parameters, env = {}) {
	const { stdout, stderr, status } = spawnSync(binary, parameters, {
		env: { ...process.env, ...env },
		encoding: "utf8",
		maxBuffer: 1 << 30,
	});
	assert.equal(status, 0, stderr);
	return stdout;
}

export async function startLogweir(
	t,
	{ listen = "127.0.0.1:0", dataDir = temporaryFolder(t), extra = [] } = {},
) {
	const token = logweir([
		"token",
		"issue",
		"--service",
		"*",
		"--role",
		"admin",
		"--data-dir",
		dataDir,
	]);
	const child = spawn(binary, ["standalone", "--data-dir", dataDir, "--listen", listen, ...extra], {
		stdio: ["ignore", "pipe", "pipe"],
	});
	let printed = "";
	for (const stream of [child.stdout, child.stderr]) {
		stream.setEncoding("utf8").on("data", (part) => {
			printed += part;
		});
	}
	const closed = new Promise((resolve) => child.on("close", resolve));
	t.after(async () => {
		child.kill("SIGKILL");
		await closed;
	});
	await until(() => /ready on http/.test(printed), "the server is ready");
	const endpoint = /ready on (http:\/\/\S+)/.exec(printed)[1];
	return {
		dataDir,
		endpoint,
		env: { LOGWEIR_ENDPOINT: endpoint, LOGWEIR_TOKEN: token.trim().split("\n").at(-1) },
		async kill() {
			child.kill("SIGKILL");
			await closed;
		},
	};
}

// The logs that are stored, by their messages.
export function storedMessages(env) {
	const lines = logweir(["export"], env).trimEnd().split("\n").filter(Boolean);
	return lines.map((line) => JSON.parse(line).message ?? JSON.parse(line).record.message);
}
