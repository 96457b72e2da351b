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
import { decode, SUBPROTOCOL } from "./codec.js";
/** The default: one WebSocket. */
export function webSocket() {
    return { name: "websocket", usable: typeof WebSocket === "function", open: openSocket };
}
function openSocket(url, listener) {
    const address = new URL(`${url.pathname.replace(/\/$/, "")}/v1/connect`, url);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, SUBPROTOCOL);
    /** Commands from before it was open. */
    const early = [];
    const send = (command) => {
        if (socket.readyState === WebSocket.CONNECTING)
            early.push(command);
        else
            socket.send(JSON.stringify(command)); // On one that ends, browsers drop it.
    };
    socket.onopen = () => early.forEach(send);
    socket.onmessage = ({ data }) => {
        const frame = decode(data);
        if (frame)
            listener.frame(frame);
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
