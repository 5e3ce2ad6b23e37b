// The package as a user gets it: packed from a clean checkout, installed into an empty project.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
	cpSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { packageFolder, startProgram } from "./support/program.mjs";
import { startServer } from "./support/server.mjs";

const made = new Set(["node_modules", "dist", "generated"]);

function npm(folder, ...parameters) {
	return execFileSync("npm", [...parameters, "--silent", "--no-fund", "--no-audit"], {
		cwd: folder,
		encoding: "utf8",
	});
}

// A copy of what is tracked, with the tools beside it.
function cleanCheckout(folder) {
	const checkout = join(folder, "sdk-js");
	const isSource = (path) => !path.split("/").some((part) => made.has(part));
	for (const name of readdirSync(packageFolder).filter((name) => !made.has(name))) {
		const filter = (path) => isSource(path.slice(packageFolder.length));
		cpSync(join(packageFolder, name), join(checkout, name), { recursive: true, filter });
	}
	cpSync(join(packageFolder, "../proto"), join(folder, "proto"), { recursive: true });
	symlinkSync(join(packageFolder, "node_modules"), join(checkout, "node_modules"));
	return checkout;
}

const typed = `
import { Client, ConfigError, Level, type ClientOptions, type FlushReport } from "@logweir/sdk";
import { wrapConsole } from "@logweir/sdk/console";
import { traceMiddleware, withTrace } from "@logweir/sdk/context";
import pinoTransport, { pinoStream } from "@logweir/sdk/pino";
import { winstonTransport } from "@logweir/sdk/winston";
const options: ClientOptions = { service: "typed", retry: { firstMs: 1 } };
export async function use(): Promise<FlushReport> {
	const client = new Client(options);
	client.emit(Level.INFO, "log", { a: 1 });
	// @ts-expect-error: there is no such level
	client.emit("loud", "log");
	wrapConsole(client)();
	withTrace(undefined, () => client.info("log"));
	return client.shutdown();
}
export const all = [ConfigError, traceMiddleware, pinoTransport, pinoStream, winstonTransport];
`;

describe("the packed package", () => {
	const project = {};
	let folder;

	before(() => {
		folder = mkdtempSync(join(tmpdir(), "logweir-sdk-js-package-"));
		project.folder = join(folder, "project");
		const checkout = cleanCheckout(folder);
		npm(checkout, "pack");
		const [tarball] = readdirSync(checkout).filter((name) => name.endsWith(".tgz"));
		project.files = execFileSync("tar", ["tzf", join(checkout, tarball)], { encoding: "utf8" });
		mkdirSync(project.folder);
		writeFileSync(join(project.folder, "package.json"), '{ "private": true }');
		npm(project.folder, "install", "--prefer-offline", join(checkout, tarball));
	});
	after(() => rmSync(folder, { recursive: true, force: true }));

	test("holds what was generated, and no sources or tests", () => {
		const files = project.files.trimEnd().split("\n");
		for (const format of ["esm", "cjs"]) {
			for (const end of ["js", "d.ts"]) {
				const generated = `package/dist/${format}/generated/logweir/v1/ingest_pb.${end}`;
				assert.ok(files.includes(generated), generated);
			}
		}
		const others = files.filter((file) => !file.startsWith("package/dist/")).sort();
		assert.deepEqual(others, ["package/README.md", "package/package.json"]);
	});

	test("brings four packages along", () => {
		const installed = join(project.folder, "node_modules");
		const scopes = ["@bufbuild", "@connectrpc", "@logweir"];
		const names = scopes.flatMap((scope) =>
			readdirSync(join(installed, scope)).map((name) => `${scope}/${name}`),
		);
		assert.deepEqual(
			readdirSync(installed).filter((name) => !name.startsWith(".")),
			scopes,
		);
		assert.deepEqual(names.sort(), [
			"@bufbuild/protobuf",
			"@connectrpc/connect",
			"@connectrpc/connect-node",
			"@connectrpc/connect-web",
			"@logweir/sdk",
		]);
	});

	for (const [format, file, load] of [
		["an ES module", "use.mjs", (name) => `await import("${name}")`],
		["CommonJS", "use.cjs", (name) => `require("${name}")`],
	]) {
		test(`works from ${format}`, async () => {
			const server = await startServer();
			const program = join(project.folder, file);
			const names = ["console", "context", "pino", "winston"].map((name) => `@logweir/sdk/${name}`);
			writeFileSync(
				program,
				`const { Client } = ${load("@logweir/sdk")};
				${names.map((name) => `${load(name)};`).join("\n")}
				new Client().info("packed");`,
			);
			const { code, stderr } = await startProgram([program], {
				LOGWEIR_ENDPOINT: server.endpoint,
			}).done;
			assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
			assert.deepEqual(
				server.records.map(({ message }) => message),
				["packed"],
			);
			await server.close();
		});
	}

	for (const [module, moduleResolution, file] of [
		["NodeNext", "NodeNext", "typed.mts"],
		["NodeNext", "NodeNext", "typed.cts"],
		["ESNext", "Bundler", "typed.ts"],
		["CommonJS", "Node10", "typed.ts"],
	]) {
		test(`has types for ${moduleResolution}, ${file}`, () => {
			writeFileSync(join(project.folder, file), typed);
			const flags = ["--noEmit", "--strict", "--target", "ES2022", "--module", module];
			const types = ["--typeRoots", join(packageFolder, "node_modules/@types"), "--types", "node"];
			const compiler = join(packageFolder, "node_modules/typescript/bin/tsc");
			const more = ["--moduleResolution", moduleResolution, ...types, file];
			const { status, stdout } = spawnSync(process.execPath, [compiler, ...flags, ...more], {
				cwd: project.folder,
				encoding: "utf8",
			});
			assert.equal(status, 0, stdout);
		});
	}
});
