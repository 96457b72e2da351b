// `tidegate`: the client for browsers, and for whatever else has `WebSocket` and `fetch`.
export { createClient } from "./client.js";
export { sessionCursors } from "./cursor.js";
export { TidegateError, Unauthorized } from "./error.js";
export { isPattern, isTopic } from "./pattern.js";
export { webSocket } from "./transport.js";
