// `tidegate`: the client for browsers, and for whatever else has `WebSocket` and `fetch`.

export { createClient } from "./client.ts";
export type { Client, ClientEvents, ClientOptions, ClientState, Connection, Limits, Retry } from "./client.ts";
export type { Close } from "./close.ts";
export type { Command, Frame } from "./codec.ts";
export { sessionCursors } from "./cursor.ts";
export type { Cursor, CursorStore } from "./cursor.ts";
export { TidegateError, Unauthorized } from "./error.ts";
export type { LiveMap } from "./live.ts";
export { isPattern, isTopic } from "./pattern.ts";
export type { From, Pattern } from "./pattern.ts";
export type { Publication } from "./publication.ts";
export type {
  Gap,
  GapReason,
  Ready,
  SubscribeOptions,
  Subscription,
  SubscriptionEvents,
  SubscriptionState,
} from "./subscription.ts";
export type { TokenProvider, TokenRequest } from "./token.ts";
export type { Page, Published, PublishOptions, Topic } from "./topic.ts";
export { webSocket } from "./transport.ts";
export type { Link, LinkListener, Transport } from "./transport.ts";
