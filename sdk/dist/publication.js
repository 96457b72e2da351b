// A Publication: one immutable message on one Topic, as the application sees it.
/** `part`: whether it came as a part of a Replay. */
export function publication(frame, part) {
    const { topic, id, time, cursor, user, replayed = part } = frame;
    const what = { topic, id, cursor: cursor, time: new Date(time), user, replayed };
    if ("deleted" in frame)
        return { ...what, deleted: true };
    return { ...what, data: "data_base64" in frame ? bytes(frame.data_base64) : frame.data };
}
/** What is sent for `data`: bytes as they are, all else as JSON. */
export function payload(data) {
    if (data instanceof Uint8Array)
        return { data_base64: base64(data) };
    if (data === undefined)
        throw new TypeError("undefined is no data");
    return { data };
}
function bytes(base64) {
    return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}
function base64(bytes) {
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
