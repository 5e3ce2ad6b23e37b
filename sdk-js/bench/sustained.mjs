// Logs a second on one core, to a sink on another, each logger in a process of its own.
import { execFileSync } from "node:child_process";
import { logweir, openTelemetry, otlpGrpc, otlpProto } from "./loggers.mjs";
import { median, path, startSink, table, turn } from "./support.mjs";

const rounds = 5;
const warmupLogs = 300_000;
const logs = 500_000;
const waitingMax = 8_000;
const perTurn = 100;

const makers = {
	"@logweir/sdk": (ports) => logweir(ports),
	"OpenTelemetry, OTLP over HTTP (protobuf)": (ports) => openTelemetry(counted(otlpProto(ports))),
	"OpenTelemetry, OTLP over gRPC": (ports) => openTelemetry(counted(otlpGrpc(ports))),
};

// How many logs an exporter has sent; the processor does not tell how many wait.
let exported = 0;
function counted(exporter) {
	const original = exporter.export.bind(exporter);
	exporter.export = (records, done) =>
		original(records, (result) => {
			exported += records.length;
			if (result.error !== undefined) {
				throw result.error;
			}
			done(result);
		});
	return exporter;
}

async function run(name, ports) {
	const logger = makers[name](ports);
	let emitted = 0;
	const waiting = logger.waiting ?? (() => emitted - exported);
	async function emit(count) {
		for (let number = 0; number < count; number += perTurn) {
			for (let log = 0; log < perTurn; log += 1) {
				logger.log(number + log);
			}
			emitted += perTurn;
			await turn();
			while (waiting() > waitingMax) {
				await new Promise((resolve) => setTimeout(resolve, 1));
			}
		}
		await logger.drain();
	}
	await emit(warmupLogs);
	const start = performance.now();
	const cpuStart = process.cpuUsage();
	await emit(logs);
	const seconds = (performance.now() - start) / 1_000;
	const cpu = process.cpuUsage(cpuStart);
	const sent = logger.client?.stats().sent ?? exported;
	await logger.end();
	const cpuMicroseconds = (cpu.user + cpu.system) / logs;
	console.log(JSON.stringify({ perSecond: logs / seconds, cpuMicroseconds, sent }));
	process.exit(0);
}

if (process.argv[2] !== undefined) {
	await run(process.argv[2], JSON.parse(process.argv[3]));
}
const { ports, stop } = await startSink(0);
const results = Object.fromEntries(Object.keys(makers).map((name) => [name, []]));
for (let round = 0; round < rounds; round += 1) {
	for (const name of Object.keys(makers)) {
		const parameters = ["-c", "1", process.execPath, path("sustained.mjs"), name];
		const line = execFileSync("taskset", [...parameters, JSON.stringify(ports)], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		const result = JSON.parse(line.toString());
		if (result.sent !== logs + warmupLogs) {
			throw new Error(`${name} sent ${result.sent} logs`);
		}
		results[name].push(result);
	}
}
const perSecond = (name) => median(results[name].map((result) => result.perSecond));
const [own] = Object.keys(makers);
table(
	"logs a second on one core (median)",
	Object.keys(makers).map((name) => {
		const cpu = median(results[name].map((result) => result.cpuMicroseconds)).toFixed(1);
		const share = (perSecond(own) / perSecond(name)).toFixed(2);
		return [
			name,
			`${Math.round(perSecond(name)).toLocaleString("en")}  ${cpu} µs of processor each  ×${share}`,
		];
	}),
);
stop();
