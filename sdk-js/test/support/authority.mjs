// A certificate authority of a test's own, made by openssl in a folder of its own.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

export class Authority {
	#folder = mkdtempSync(join(tmpdir(), "logweir-authority-"));

	constructor(name) {
		process.on("exit", () => rmSync(this.#folder, { recursive: true }));
		const subject = ["-subj", `/CN=${name}`, "-days", "2"];
		this.#openssl("req", "-x509", ...curve, ...subject, "-keyout", "ca.key", "-out", "ca.pem");
	}

	get file() {
		return this.path("ca.pem");
	}

	get certificate() {
		return readFileSync(this.file);
	}

	path(name) {
		return join(this.#folder, name);
	}

	// Makes the files of a certificate and its key, for an address such as `IP:127.0.0.1`.
	issue(address) {
		const subject = ["-subj", "/CN=test"];
		this.#openssl("req", ...curve, ...subject, "-keyout", "own.key", "-out", "own.csr");
		writeFileSync(this.path("own.ext"), `subjectAltName=${address}\n`);
		const issuer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
		const target = ["-extfile", "own.ext", "-in", "own.csr", "-out", "own.pem"];
		this.#openssl("x509", "-req", ...issuer, ...target);
		return { certificateFile: this.path("own.pem"), keyFile: this.path("own.key") };
	}

	// What a secure server is made with.
	serverOptions(address) {
		const { certificateFile, keyFile } = this.issue(address);
		return { cert: readFileSync(certificateFile), key: readFileSync(keyFile) };
	}

	#openssl(...parameters) {
		execFileSync("openssl", parameters, { cwd: this.#folder, stdio: "pipe" });
	}
}
