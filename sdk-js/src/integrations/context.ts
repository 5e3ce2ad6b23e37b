/** The trace of a request: what is logged while it is handled belongs to it. */

import { withTrace } from "../record/current-trace.js";

export { currentTrace, traceparent, withTrace } from "../record/current-trace.js";
export { formatTraceparent, parseTraceparent, type Trace } from "../record/trace.js";

/** The part of a request that is used here, of Node itself, Express, Fastify and Koa. */
export interface IncomingRequest {
	headers: { readonly [name: string]: string | string[] | undefined };
}

/**
 * Middleware for Express, and the hook `onRequest` for Fastify: each request runs within its trace.
 *
 * `app.use(traceMiddleware)` or `fastify.addHook("onRequest", traceMiddleware)`
 */
export function traceMiddleware(
	request: IncomingRequest,
	_response: unknown,
	next: (error?: Error) => void,
): void {
	withTrace(headerOf(request), () => next());
}

/** Middleware for Koa: `app.use(koaTraceMiddleware)`. */
export function koaTraceMiddleware<T>(
	context: { request: IncomingRequest },
	next: () => Promise<T>,
): Promise<T> {
	return withTrace(headerOf(context.request), next);
}

function headerOf(request: IncomingRequest): string | undefined {
	const header = request.headers.traceparent;
	return Array.isArray(header) ? undefined : header;
}
