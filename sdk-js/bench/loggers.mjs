// The loggers that are compared, each as one call, with what lets it catch up and what ends it.
import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter as GrpcExporter } from "@opentelemetry/exporter-logs-otlp-grpc";
import { OTLPLogExporter as ProtoExporter } from "@opentelemetry/exporter-logs-otlp-proto";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import pino from "pino";
import { Client } from "../dist/esm/index.js";
import { attributesOf, message, path } from "./support.mjs";

function pinoWith(target, options) {
	const transport = pino.transport({ target, options });
	const logger = pino(transport);
	return {
		log: (number) => logger.info(attributesOf(number), message),
		drain: () => new Promise((resolve) => transport.flush(resolve)),
		end: () =>
			new Promise((resolve) => {
				transport.on("close", resolve);
				transport.end();
			}),
	};
}

export function pinoToNull() {
	return pinoWith(path("null-transport.mjs"), {});
}

export function pinoToLogweir(ports) {
	return pinoWith(path("../dist/esm/integrations/pino.js"), {
		endpoint: `http://127.0.0.1:${ports.grpc}`,
		service: "bench",
	});
}

export function logweir(ports, options = {}) {
	const client = new Client({
		endpoint: `http://127.0.0.1:${ports.grpc}`,
		service: "bench",
		...options,
	});
	return {
		client,
		log: (number) => client.info(message, attributesOf(number)),
		waiting: () => client.stats().queued,
		drain: () => client.flush(60_000),
		end: () => client.shutdown(60_000),
	};
}

export function openTelemetry(exporter, { queueSize = 16_384 } = {}) {
	const processor = new BatchLogRecordProcessor({
		exporter,
		maxQueueSize: queueSize,
		maxExportBatchSize: 512,
	});
	const provider = new LoggerProvider({ processors: [processor] });
	const logger = provider.getLogger("bench");
	return {
		processor,
		log: (number) =>
			logger.emit({
				severityNumber: SeverityNumber.INFO,
				severityText: "INFO",
				body: message,
				attributes: attributesOf(number),
			}),
		drain: () => provider.forceFlush(),
		end: () => provider.shutdown(),
	};
}

export function otlpProto(ports) {
	return new ProtoExporter({ url: `http://127.0.0.1:${ports.otlp}/v1/logs` });
}

export function otlpGrpc(ports) {
	return new GrpcExporter({ url: `http://127.0.0.1:${ports.grpc}` });
}
