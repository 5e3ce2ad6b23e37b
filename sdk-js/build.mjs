// Compiles the sources twice, for both module systems, into dist.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");

rmSync("dist", { recursive: true, force: true });
for (const [format, project, type] of [
	["esm", "tsconfig.json", "module"],
	["cjs", "tsconfig.cjs.json", "commonjs"],
]) {
	execFileSync(process.execPath, [compiler, "--project", project], { stdio: "inherit" });
	writeFileSync(`dist/${format}/package.json`, `${JSON.stringify({ type })}\n`);
}
