// How Frames travel: the seam between the client and whatever carries its Commands.
//
// A Transport opens Links. A Link takes Commands and gives Frames until it ends, once. All that the client
// wants of a gateway it says in Commands, beginning with `connect` and, in the same turn, one `subscribe`
// with all that it wants to resume. So a Link that is no socket can do its own by listening to them: keep a
// stream open for what is subscribed to, publish by HTTP, or hand all of it to a worker. One that depends on a
// connection of somebody else ends when that is lost, by a reason with `"retry":true,"ms":0`; the client then opens
// the next one at once, and subscribes from its Cursors, and that one says `connected` when it is.
//
// LAW: a Link never comes back by itself after `ended`. When to try again, and with which Transport, is
// for the client alone.

import { decode, SUBPROTOCOL } from "./codec.ts";
import type { Command, Frame } from "./codec.ts";
import type { Close } from "./close.ts";

/** One way to a gateway. Stateless: each call of `open` is a new Link. */
export interface Transport {
  /** For people: it shows in `client.connection.transport`. */
  readonly name: string;
  /** Whether it can work here at all. A Transport that cannot is passed over without a word. */
  readonly usable: boolean;
  /**
   * Begins a Link, and returns at once. It must neither throw nor call `listener` before it has returned: what
   * cannot begin is a Link that ends.
   *
   * @param url the gateway's root, `http:` or `https:`, its path without a slash at the end
   */
  open(url: URL, listener: LinkListener): Link;
}

/** One conversation with a gateway, as long as it lasts. */
export interface Link {
  /**
   * Sends a Command, or holds it until it can be sent; Commands arrive in order. The first is `connect`, and
   * carries the Token. A Link that answers by itself (no node ever sees its Commands) owes for
   *
   * - `connect`: a `connected` with that `id`, or its end by a Close that says why not
   * - `subscribe`: for each Pattern a `subscribed` (then its `message`s, parts headed by `replay`) or an
   *   `error` with that `topic`, all with that `id`
   * - `unsubscribe`, `publish`, `history`, `token`, `ping`: the Reply, or an `error`
   *
   * and a Frame at least every `heartbeat_ms` of its `connected`; a `ping` will do, and its `pong` may be
   * dropped. How many Commands can wait for Replies is bounded by the client. After the end it does nothing.
   */
  send(command: Command): void;
  /** Ends it from this side. The listener hears nothing any more. */
  close(): void;
}

/** Whoever opened a Link. */
export interface LinkListener {
  /** What the gateway says, in order. Frames of an unknown `type` may pass. */
  frame(frame: Frame): void;
  /** The Link has ended, and not by `close()`. Comes at most once, and nothing comes after it. */
  ended(close: Close): void;
}

/** The default: one WebSocket. */
export function webSocket(): Transport {
  return { name: "websocket", usable: typeof WebSocket === "function", open: openSocket };
}

function openSocket(url: URL, listener: LinkListener): Link {
  const address = new URL(`${url.pathname.replace(/\/$/, "")}/v1/connect`, url);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, SUBPROTOCOL);
  /** Commands from before it was open. */
  const early: Command[] = [];
  const send = (command: Command): void => {
    if (socket.readyState === WebSocket.CONNECTING) early.push(command);
    else socket.send(JSON.stringify(command)); // On one that ends, browsers drop it.
  };
  socket.onopen = () => early.forEach(send);
  socket.onmessage = ({ data }) => {
    const frame = decode(data);
    if (frame) listener.frame(frame);
  };
  socket.onclose = ({ code: status, reason }) => listener.ended({ status, reason });
  return {
    send,
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
}
