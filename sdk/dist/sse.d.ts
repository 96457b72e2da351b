import type { Transport } from "./transport.ts";
/**
 * The fallback: streams to receive, HTTP to publish. It takes one connection of the six that browsers have for an
 * origin over HTTP/1.1, and two or three for a moment while subscriptions change.
 */
export declare function sse(): Transport;
