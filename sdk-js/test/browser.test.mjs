// A page in a real browser, on another origin than the server.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import http from "node:http";
import { describe, test } from "node:test";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { logweir, startLogweir, storedMessages } from "./support/logweir.mjs";
import { packageFolder, temporaryFolder } from "./support/program.mjs";
import { patienceMs } from "./support/wait.mjs";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
assert.ok(existsSync(executablePath), "CHROMIUM names a browser, or apt-get install chromium");

const flags = [
	"--headless",
	"--no-sandbox",
	"--disable-gpu",
	"--disable-quic",
	"--no-first-run",
	"--disable-background-networking",
	"--disable-component-update",
	"--disable-sync",
	"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

async function bundle() {
	const contents = 'export * from "@logweir/sdk";';
	const { outputFiles } = await build({
		stdin: { contents, resolveDir: packageFolder },
		bundle: true,
		format: "esm",
		platform: "browser",
		write: false,
	});
	return outputFiles[0].text;
}

// Serves a page with the package at hand as `sdk`.
async function startPage(t) {
	const script = await bundle();
	const server = http.createServer((request, response) => {
		if (request.url === "/sdk.js") {
			response.setHeader("content-type", "text/javascript");
			response.end(script);
			return;
		}
		response.setHeader("content-type", "text/html");
		response.end(
			`<script type="module">import * as sdk from "/sdk.js"; window.sdk = sdk;</script>`,
		);
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => {
		server.close();
		server.closeAllConnections();
	});
	return `http://127.0.0.1:${server.address().port}`;
}

async function startBrowser(t) {
	const context = await chromium.launchPersistentContext(temporaryFolder(t), {
		executablePath,
		args: flags,
	});
	t.after(() => context.close());
	return context.newPage();
}

// A page whose origin the server names, with a token that may write one service.
async function openPage(t) {
	const origin = await startPage(t);
	const server = await startLogweir(t, { extra: ["--cors-origins", origin] });
	const issue = ["token", "issue", "--service", "web", "--role", "ingest"];
	const token = logweir([...issue, "--data-dir", server.dataDir])
		.trim()
		.split("\n")
		.at(-1);
	const page = await startBrowser(t);
	await page.goto(origin);
	await page.waitForFunction(() => window.sdk !== undefined);
	return { server, page, options: { endpoint: server.endpoint, token } };
}

async function untilStored(env, messages) {
	const deadline = Date.now() + patienceMs;
	for (;;) {
		const stored = storedMessages(env).sort();
		if (stored.length >= messages.length) {
			assert.deepEqual(stored, messages);
			return;
		}
		assert.ok(Date.now() < deadline, `stored: ${stored}`);
		// Lets the browser's driver run.
		await new Promise((resolve) => setImmediate(resolve));
	}
}

describe("a page of another origin", () => {
	test("sends logs and hears what became of them", async (t) => {
		const { server, page, options } = await openPage(t);
		const stats = await page.evaluate(async (options) => {
			const client = window.sdk.init("web", options);
			console.log("from the console", { user_id: 42 });
			client.warn("from the client");
			await client.flush();
			return client.stats();
		}, options);
		assert.equal(stats.sent, 2);
		await untilStored(server.env, ["from the client", "from the console"]);
	});

	test("sends what waits when it is left", async (t) => {
		const { server, page, options } = await openPage(t);
		await page.evaluate((options) => {
			const hourMs = 3_600_000;
			window.client = new window.sdk.Client({ service: "web", batchDelayMs: hourMs, ...options });
			window.client.info("before");
			return window.client.flush();
		}, options);
		await page.evaluate(() => window.client.info("last words"));
		await page.goto("about:blank");
		await untilStored(server.env, ["before", "last words"]);
	});

	test("whose origin is not named hears so, and goes on", async (t) => {
		const origin = await startPage(t);
		const server = await startLogweir(t);
		const page = await startBrowser(t);
		await page.goto(origin);
		await page.waitForFunction(() => window.sdk !== undefined);
		const { notices, report } = await page.evaluate(async (endpoint) => {
			const notices = [];
			const onNotice = (text) => notices.push(text);
			const client = new window.sdk.Client({ endpoint, token: "t", onNotice });
			client.info("lost");
			return { report: await client.shutdown(500), notices };
		}, server.endpoint);
		assert.deepEqual(report.dropped, { shutdown_timeout: 1 });
		assert.match(notices[0], /^cannot reach http:.*; logs are kept in memory/);
		assert.equal(notices.length, 2);
	});
});
