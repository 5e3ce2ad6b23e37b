// What one call costs on the caller's thread: rounds of all loggers in turn, medians. Between the rounds
// each catches up, so that no queue is full.
import { logweir, openTelemetry, otlpProto, pinoToLogweir, pinoToNull } from "./loggers.mjs";
import { median, startSink, table } from "./support.mjs";

const rounds = 41;
const warmupRounds = 10;
const calls = 2_000;

const { ports, stop } = await startSink();
const loggers = {
	"pino, worker transport to /dev/null": pinoToNull(),
	"pino, worker transport @logweir/sdk/pino": pinoToLogweir(ports),
	"@logweir/sdk client": logweir(ports),
	"OpenTelemetry, BatchLogRecordProcessor": openTelemetry(otlpProto(ports)),
};
const times = Object.fromEntries(Object.keys(loggers).map((name) => [name, []]));
for (let round = -warmupRounds; round < rounds; round += 1) {
	for (const [name, { log, drain }] of Object.entries(loggers)) {
		const start = process.hrtime.bigint();
		for (let number = 0; number < calls; number += 1) {
			log(number);
		}
		const microseconds = Number(process.hrtime.bigint() - start) / 1_000 / calls;
		if (round >= 0) {
			times[name].push(microseconds);
		}
		await drain();
	}
}
table(
	"microseconds a call on the caller's thread (median)",
	Object.entries(times).map(([name, values]) => [name, median(values).toFixed(2)]),
);
await Promise.all(Object.values(loggers).map(({ end }) => end()));
stop();
