// How late the event loop is at 50,000 logs a second, and with none.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { logweir } from "./loggers.mjs";
import { startSink, table } from "./support.mjs";

const logsPerSecond = 50_000;
const warmupSeconds = 2;
const seconds = 10;
const nanosecondsPerMillisecond = 1e6;

// Logs as many as the time since the last tick asks for.
function logFor(milliseconds, log) {
	return new Promise((resolve) => {
		const start = performance.now();
		let logged = 0;
		const timer = setInterval(() => {
			const elapsed = performance.now() - start;
			const due = (Math.min(elapsed, milliseconds) * logsPerSecond) / 1_000;
			for (; logged < due; logged += 1) {
				log(logged);
			}
			if (elapsed >= milliseconds) {
				clearInterval(timer);
				resolve(logged);
			}
		}, 1);
	});
}

async function delayOf(log) {
	await logFor(warmupSeconds * 1_000, log);
	const histogram = monitorEventLoopDelay({ resolution: 1 });
	histogram.enable();
	await logFor(seconds * 1_000, log);
	histogram.disable();
	const percentile = (share) =>
		(histogram.percentile(share) / nanosecondsPerMillisecond).toFixed(1);
	return `p50 ${percentile(50)}  p99 ${percentile(99)}  max ${percentile(100)}`;
}

const { ports, stop } = await startSink();
const { client, log, end } = logweir(ports);
const idle = await delayOf(() => {});
const busy = await delayOf(log);
await end();
stop();
const { emitted, sent } = client.stats();
table(`event loop's delay at ${logsPerSecond} logs a second, milliseconds`, [
	["no logs", idle],
	["@logweir/sdk", busy],
	["sent", `${sent} of ${emitted}`],
]);
