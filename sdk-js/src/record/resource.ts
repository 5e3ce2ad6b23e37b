/** What all logs of a client have in common: given by the program, its environment, or found. */

import { create } from "@bufbuild/protobuf";
import { ConfigError } from "../errors.js";
import { AttributeSchema, type Resource, ResourceSchema } from "../generated/logweir/v1/log_pb.js";
import type { Platform } from "../platform.js";
import { cutText } from "./limits.js";
import {
	attributeKeyBytesMax,
	attributesMax,
	attributeValueBytesMax,
	nameBytesMax,
} from "./record.js";
import { type Redaction, redacted } from "./redaction.js";

/** What the program says of itself. */
export interface ResourceOptions {
	/** The service that writes the logs. Default: the token's. */
	service?: string | undefined;
	/** The instance of the service. Default: host and process. */
	instance?: string | undefined;
	/** The deployment environment, such as `production`. */
	environment?: string | undefined;
	version?: string | undefined;
	region?: string | undefined;
	/** Further named values, added to every log that has none of that name. */
	attributes?: { readonly [name: string]: string | number | boolean } | undefined;
	/** Whether container and pod are looked for. Yes. */
	resourceDetection?: boolean | undefined;
}

type Value = string | number | boolean;
/** The fields of a resource that are text. */
type Field = "instance" | "environment" | "version" | "region" | "host";

const otelResource = "OTEL_RESOURCE_ATTRIBUTES";
const serviceName = /^[A-Za-z0-9._/-]{1,128}$/;
const serviceAdvice = "use 1 to 128 characters of A-Z a-z 0-9 . _ / -";

/** OpenTelemetry's names of the fields. */
const fieldsByName: { readonly [name: string]: Field } = {
	"service.version": "version",
	"service.instance.id": "instance",
	"deployment.environment": "environment",
	"deployment.environment.name": "environment",
	"cloud.region": "region",
	"host.name": "host",
};

/** Variables of the downward API, the longer name first. */
const podVariables: readonly (readonly [attribute: string, variables: readonly string[]])[] = [
	["k8s.pod.name", ["K8S_POD_NAME", "POD_NAME"]],
	["k8s.namespace.name", ["K8S_NAMESPACE_NAME", "POD_NAMESPACE"]],
	["k8s.node.name", ["K8S_NODE_NAME", "NODE_NAME"]],
	["k8s.pod.uid", ["K8S_POD_UID", "POD_UID"]],
	["k8s.container.name", ["K8S_CONTAINER_NAME", "CONTAINER_NAME"]],
];

type Facts = Pick<Platform, "environment" | "readFile" | "hostName" | "processId">;

/** Collects a resource, each part from the first source that has it. */
class Collector {
	service = "";
	readonly fields = new Map<Field, string>();
	readonly attributes = new Map<string, Value>();
	readonly #notice: (text: string) => void;

	readonly #redaction: Redaction;

	constructor(notice: (text: string) => void, redaction: Redaction) {
		this.#notice = notice;
		this.#redaction = redaction;
	}

	/** A name that the server would refuse is left out, and told. */
	suggestService(service: string, source: string): void {
		if (this.service !== "") {
			return;
		}
		if (serviceName.test(service)) {
			this.service = service;
		} else {
			this.#notice(
				`${source}: service ${JSON.stringify(service)} is not valid: ${serviceAdvice}; going on without it`,
			);
		}
	}

	setField(field: Field, value: string | undefined): void {
		if (value !== undefined && value !== "" && !this.fields.has(field)) {
			this.fields.set(field, value);
		}
	}

	setAttribute(name: string, value: Value | undefined): void {
		if (value !== undefined && !this.attributes.has(name)) {
			this.attributes.set(name, this.#redaction.hides(name) ? redacted : value);
		}
	}
}

/** The resource of a client. Throws a `ConfigError` if the program names a service that is none. */
export function resolveResource(
	options: ResourceOptions,
	facts: Facts,
	notice: (text: string) => void,
	redaction: Redaction,
): Resource {
	const collector = new Collector(notice, redaction);
	// In order of rank: the first source of each part wins.
	addGiven(collector, options);
	addFromEnvironment(collector, facts, notice);
	const host = facts.hostName();
	collector.setField("host", host);
	const processId = facts.processId();
	collector.setField("instance", processId === undefined ? host : `${host}:${processId}`);
	// Last, so that whatever was given wins.
	if (options.resourceDetection ?? true) {
		addDetected(collector, facts);
	}
	return toResource(collector);
}

function addGiven(collector: Collector, options: ResourceOptions): void {
	const { service } = options;
	if (service !== undefined && service !== "") {
		if (!serviceName.test(service)) {
			const name = JSON.stringify(service);
			throw new ConfigError("service", `service ${name} is not valid: ${serviceAdvice}`);
		}
		collector.service = service;
	}
	for (const field of ["instance", "environment", "version", "region"] as const) {
		collector.setField(field, options[field]);
	}
	for (const [name, value] of Object.entries(options.attributes ?? {})) {
		collector.setAttribute(name, value);
	}
}

function addFromEnvironment(
	collector: Collector,
	facts: Facts,
	notice: (text: string) => void,
): void {
	for (const variable of ["LOGWEIR_SERVICE", "OTEL_SERVICE_NAME"]) {
		const service = facts.environment(variable);
		if (service !== undefined) {
			collector.suggestService(service, variable);
		}
	}
	for (const pair of (facts.environment(otelResource) ?? "").split(",")) {
		addPair(collector, pair.trim(), notice);
	}
}

function addPair(collector: Collector, pair: string, notice: (text: string) => void): void {
	const equals = pair.indexOf("=");
	const name = pair.slice(0, Math.max(0, equals)).trim();
	if (pair === "") {
		return;
	}
	if (name === "") {
		notice(`${otelResource}: ${JSON.stringify(pair)} is not KEY=VALUE; left out`);
		return;
	}
	const value = percentDecoded(pair.slice(equals + 1).trim());
	const field = fieldsByName[name];
	if (name === "service.name") {
		collector.suggestService(value, otelResource);
	} else if (field !== undefined) {
		collector.setField(field, value);
	} else {
		collector.setAttribute(name, value);
	}
}

/** OpenTelemetry lets values be percent-encoded. What is not valid stays as it is. */
function percentDecoded(text: string): string {
	return text.replace(/(?:%[0-9A-Fa-f]{2})+/g, (codes) => {
		try {
			return decodeURIComponent(codes);
		} catch {
			return codes;
		}
	});
}

function addDetected(collector: Collector, facts: Facts): void {
	collector.setAttribute("process.pid", facts.processId());
	collector.setAttribute("container.id", containerId(facts));
	if (facts.environment("KUBERNETES_SERVICE_HOST") === undefined) {
		// Outside of Kubernetes these variables are somebody else's.
		return;
	}
	for (const [attribute, variables] of podVariables) {
		const values = variables.map((variable) => facts.environment(variable));
		collector.setAttribute(
			attribute,
			values.find((value) => value !== undefined),
		);
	}
}

function containerId(facts: Facts): string | undefined {
	const isDigits = "(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])";
	return (
		find(facts, "/proc/self/cgroup", new RegExp(isDigits)) ??
		find(facts, "/proc/self/mountinfo", new RegExp(`(?<=/containers/)${isDigits}`))
	);
}

function find(facts: Facts, path: string, pattern: RegExp): string | undefined {
	try {
		return pattern.exec(facts.readFile(path))?.[0];
	} catch {
		return undefined;
	}
}

/** Cut to the limits, as a log is. */
function toResource(collector: Collector): Resource {
	const field = (name: Field) => cutText(collector.fields.get(name) ?? "", nameBytesMax);
	const named = [...collector.attributes].filter(([name]) => name !== "");
	return create(ResourceSchema, {
		service: collector.service,
		instance: field("instance"),
		environment: field("environment"),
		version: field("version"),
		region: field("region"),
		host: field("host"),
		// The server would refuse the batch, and with it all of its logs.
		attributes: named.slice(0, attributesMax).map(([name, value]) => toAttribute(name, value)),
	});
}

function toAttribute(name: string, value: Value) {
	return create(AttributeSchema, {
		key: cutText(name, attributeKeyBytesMax),
		value: toValue(value),
	});
}

function toValue(value: Value) {
	if (typeof value === "boolean") {
		return { case: "boolValue", value } as const;
	}
	if (typeof value === "number") {
		return Number.isSafeInteger(value)
			? ({ case: "intValue", value: BigInt(value) } as const)
			: ({ case: "doubleValue", value } as const);
	}
	return { case: "stringValue", value: cutText(String(value), attributeValueBytesMax) } as const;
}
