// Patterns: their grammar, what they match, and the object that an application holds for one.
/** Bytes of a Topic or Pattern, as written. */
const BYTES_MAX = 200;
const SEGMENTS_MAX = 16;
const SEGMENT = /^[A-Za-z0-9_\-=:@~,!]{1,64}$/;
/** The spelling to compare in: a last `**` is `>`. */
export function canonical(pattern) {
    return pattern === "**" || pattern.endsWith(".**") ? `${pattern.slice(0, -2)}>` : pattern;
}
/** Whether it can be published to. For names that come from users: a gateway refuses all others. */
export function isTopic(text) {
    const segments = text.split(".");
    return bounded(text, segments) && segments.every((segment) => SEGMENT.test(segment));
}
/** Whether a client may subscribe to it: its Namespace must not be a wildcard. */
export function isPattern(text) {
    const segments = text.split(".");
    const last = segments.length - 1;
    return (bounded(text, segments) &&
        segments.every((segment, at) => SEGMENT.test(segment) ||
            (at > 0 && (segment === "*" || (at === last && (segment === ">" || segment === "**"))))));
}
function bounded(text, segments) {
    return text.length <= BYTES_MAX && segments.length <= SEGMENTS_MAX && !text.startsWith("_");
}
/** Of a Pattern in the spelling with `>`: matches its Topics, and no other. */
export function matcher(pattern) {
    const literal = pattern.replace(/[^\w*>]/g, "\\$&");
    return new RegExp(`^${literal.replace(/\*/g, "[^.]+").replace(/>$/, ".+")}$`);
}
export function patternOf(client, text) {
    const name = canonical(text);
    return {
        name,
        subscribe(first, second) {
            const [receive, options = {}] = typeof first === "function" ? [first, second] : [undefined, first];
            return client.subscribe(name, options.from && onWire(options.from), receive, options);
        },
        live: (options) => client.live(name, options?.signal),
    };
}
function onWire(from) {
    if (typeof from === "object")
        return "since" in from ? { since: from.since.toISOString() } : from;
    return from === "live" || from === "last" ? from : { cursor: from };
}
