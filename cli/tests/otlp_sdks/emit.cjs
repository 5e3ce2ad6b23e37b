// Emits numbered logs by OpenTelemetry's JavaScript SDK, and prints the numbers that it says it exported.
//
//     node emit.cjs grpc|http|proto COUNT
//
// with ENDPOINT and TOKEN in its environment, and NODE_PATH where the packages lie. Prints one line of
// JSON, a list of numbers, at the end.
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BatchLogRecordProcessor, LoggerProvider } = require("@opentelemetry/sdk-logs");

const firstTimeUnixNano = 1_700_000_000_000_000_001n;
const nanosPerSecond = 1_000_000_000n;
const infoSeverityNumber = 9;
const batchMax = 500;
const logsPerTurn = 500;
// Its exporters fail whatever is beyond thirty batches under way.
const waitingMax = 5_000;
const waitMs = 1;
// Over gRPC they do not retry: whatever is logged while the server is away is lost.
const pauseMs = 200;

// Hands batches to an exporter, and notes those that it exported.
class Noting {
	constructor(inner) {
		this.inner = inner;
		this.exported = [];
		this.settled = 0;
		this.failedMs = 0;
	}

	mustWait(emitted) {
		return emitted - this.settled > waitingMax || Date.now() < this.failedMs + pauseMs;
	}

	export(batch, done) {
		this.inner.export(batch, (result) => {
			this.settled += batch.length;
			if (result.code === 0) {
				this.exported.push(...batch.map((record) => record.attributes.number));
			} else {
				this.failedMs = Date.now();
			}
			done(result);
		});
	}

	async forceFlush() {
		await this.inner.forceFlush?.();
	}

	async shutdown() {
		await this.inner.shutdown();
	}
}

function exporter(protocol) {
	const [endpoint, authorization] = [process.env.ENDPOINT, `Bearer ${process.env.TOKEN}`];
	if (protocol === "grpc") {
		const { Metadata, credentials } = require("@grpc/grpc-js");
		const { OTLPLogExporter } = require("@opentelemetry/exporter-logs-otlp-grpc");
		const metadata = new Metadata();
		metadata.set("authorization", authorization);
		return new OTLPLogExporter({ url: endpoint, metadata, credentials: credentials.createInsecure() });
	}
	const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${protocol}`);
	return new OTLPLogExporter({ url: `${endpoint}/v1/logs`, headers: { authorization } });
}

async function main() {
	const [protocol, count] = [process.argv[2], Number(process.argv[3])];
	const noting = new Noting(exporter(protocol));
	const processor = new BatchLogRecordProcessor({
		exporter: noting,
		maxExportBatchSize: batchMax,
		maxQueueSize: count,
		scheduledDelayMillis: 50,
		exportTimeoutMillis: 60_000,
	});
	const resource = resourceFromAttributes({ "service.name": "otlp-javascript" });
	const provider = new LoggerProvider({ resource, processors: [processor] });
	const logger = provider.getLogger("emit");
	for (let number = 0; number < count; number += 1) {
		const time = firstTimeUnixNano + BigInt(number);
		logger.emit({
			timestamp: [Number(time / nanosPerSecond), Number(time % nanosPerSecond)],
			severityNumber: infoSeverityNumber,
			body: `log ${number} of the otlp test`,
			attributes: { number },
		});
		if (number % logsPerTurn === 0) {
			do {
				await new Promise((resolve) => setTimeout(resolve, waitMs));
			} while (noting.mustWait(number));
		}
	}
	await provider.forceFlush();
	await provider.shutdown();
	process.stdout.write(`${JSON.stringify(noting.exported)}\n`, () => process.exit(0));
}

main();
