// The words of the wire: Commands out, Replies and Pushes in. All of it is JSON.
//
// Names are the protocol's own: snake case, times as text, durations in `_ms`. What an application sees is
// made of them elsewhere; nothing here knows a socket.
/** Who this is, as nodes log it. A test holds it equal to `package.json`. */
export const CLIENT = "tidegate-js/0.1.0";
/** The subprotocol of the WebSocket. */
export const SUBPROTOCOL = "tidegate.v1.json";
/** Patterns in one `subscribe`; a node refuses more. */
export const TOPICS_PER_SUBSCRIBE = 128;
/** Undefined for what is no Frame. A `type` that nobody here knows is the reader's to ignore. */
export function decode(text) {
    try {
        const frame = JSON.parse(text); // A binary message is no JSON either.
        return frame?.type ? frame : undefined;
    }
    catch {
        return undefined;
    }
}
