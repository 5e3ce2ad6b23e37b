// TLS to the server: with a CA of one's own, with a certificate of the client, and when it is refused.
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { ConfigError } from "../dist/esm/index.js";
import { Authority } from "./support/authority.mjs";
import { testClient } from "./support/client.mjs";
import { startServer } from "./support/server.mjs";
import { patienceMs, until } from "./support/wait.mjs";

const address = "IP:127.0.0.1";
const authority = new Authority("Test");
const other = new Authority("Other");

async function sent(serverOptions, tls) {
	const server = await startServer({ tls: serverOptions });
	const client = testClient({ endpoint: server.endpoint, tls });
	client.info("m".repeat(2_000));
	await client.flush(patienceMs);
	await client.shutdown(0);
	await server.close();
	return client.stats().sent;
}

// The line that a person is told of a server that the client does not trust.
async function refusal(serverOptions, tls) {
	const server = await startServer({ tls: serverOptions });
	const client = testClient({ endpoint: server.endpoint, tls });
	client.info("secret");
	await until(() => client.notices.length > 0, "the notice");
	assert.equal(client.stats().sent, 0);
	await client.shutdown(0);
	assert.equal(server.attempts.length, 0);
	await server.close();
	const [notice] = client.notices;
	assert.ok(notice.startsWith(`cannot reach ${server.endpoint} (TLS: `), notice);
	assert.ok(!notice.includes("\n"), notice);
	return notice;
}

test("a server whose CA is known gets the logs", async () => {
	assert.equal(await sent(authority.serverOptions(address), { caFile: authority.file }), 1);
});

test("each CA of a file is known, whatever stands between", async () => {
	const bundle = authority.path("bundle.pem");
	const certificates = [other.certificate, authority.certificate];
	writeFileSync(bundle, certificates.map((text) => `# one of ours\n${text}`).join("\n"));
	assert.equal(await sent(authority.serverOptions(address), { caFile: bundle }), 1);
});

test("a server of another CA gets nothing, and the line says what to do", async () => {
	for (const tls of [{ caFile: other.file }, undefined]) {
		assert.match(await refusal(authority.serverOptions(address), tls), /LOGWEIR_TLS_CA/);
	}
});

test("a server of another name gets nothing, and the line names it", async () => {
	const notice = await refusal(authority.serverOptions("IP:127.0.0.2"), { caFile: authority.file });
	assert.match(notice, /127\.0\.0\.2; use a name that is in the server's certificate/);
});

test("a server that wants a certificate is shown it", async () => {
	const { certificateFile, keyFile } = authority.issue(address);
	const serverOptions = {
		...authority.serverOptions(address),
		ca: authority.certificate,
		requestCert: true,
		rejectUnauthorized: true,
	};
	const tls = {
		caFile: authority.file,
		clientCertificateFile: certificateFile,
		clientKeyFile: keyFile,
	};
	assert.equal(await sent(serverOptions, tls), 1);
});

test("files that cannot be used fail at once", () => {
	const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	const files = {
		text: "no certificate",
		der: new X509Certificate(authority.certificate).raw,
		bundle: `${authority.certificate}${broken}`,
		cutOff: `${authority.certificate}${authority.certificate.subarray(0, 200)}`,
	};
	for (const [name, content] of Object.entries(files)) {
		writeFileSync(authority.path(name), content);
	}
	for (const name of ["nowhere", ...Object.keys(files)]) {
		const tls = { caFile: authority.path(name) };
		assert.throws(() => testClient({ endpoint: "https://127.0.0.1:1", tls }), ConfigError, name);
	}
});
