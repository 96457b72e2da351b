// `tidegate.js`: all of the client in one file, for pages without a bundler. It is the shared worker's script, too.

import { serveTabs } from "./hub.ts";

export * from "./index.ts";
export * from "./sse.ts";
export { shared } from "./shared.ts";
export type { SharedOptions } from "./shared.ts";

if ("SharedWorkerGlobalScope" in globalThis) serveTabs(globalThis as { onconnect?: (event: MessageEvent) => void });
