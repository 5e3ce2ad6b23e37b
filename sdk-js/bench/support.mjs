// What the benchmarks have in common.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const attributesOf = (number) => ({
	user_id: number,
	route: "/api/orders",
	status: 200,
	duration_ms: 12.5,
});
export const message = "request completed";

export function path(name) {
	return fileURLToPath(new URL(name, import.meta.url));
}

// Starts the sink on a core of its own where that can be asked for.
export async function startSink(core) {
	const command = core === undefined ? [] : ["taskset", "-c", String(core)];
	const [program, ...parameters] = [...command, process.execPath, path("sink.mjs")];
	const sink = spawn(program, parameters, { stdio: ["ignore", "pipe", "inherit"] });
	const [line] = await once(createInterface(sink.stdout), "line");
	return { ports: JSON.parse(line), stop: () => sink.kill() };
}

export function median(values) {
	const sorted = [...values].sort((one, other) => one - other);
	return sorted[Math.floor(sorted.length / 2)];
}

export function table(title, rows) {
	const width = Math.max(...rows.map(([name]) => name.length));
	console.log(`\n${title}`);
	for (const [name, value] of rows) {
		console.log(`  ${name.padEnd(width)}  ${value}`);
	}
}

export function turn() {
	return new Promise((resolve) => setImmediate(resolve));
}
