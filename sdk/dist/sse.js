// `tidegate/sse`: Server-Sent Events, read by `fetch`, for where no WebSocket gets through.
//
// A Stream only speaks, and what it speaks of is settled when it begins. So each change of what is subscribed to
// opens another one, which goes on at the oldest Cursor of each Namespace and has caught up before the one before it
// ends. All else that a Link is asked is plain HTTP.
//
//     new ──────────────────────▶ next ── caught up ──▶ main ── replaced ──▶ leaving
//      └── begins elsewhere ──▶ aside ──┘
//
// LAW: all that is live comes by `main`, and `next` brings all of that, too, from where it was on. A Namespace with
// which `next` has caught up comes from there alone: of two Streams, one may be ahead of what the other has still to
// say.
import { Alarm } from "./alarm.js";
import { LOST } from "./close.js";
import { isAfter, sameHistory } from "./cursor.js";
import { matcher } from "./pattern.js";
import { lost, problem, wantsToken } from "./problem.js";
import { Stream } from "./stream.js";
/** For an answer over HTTP; nodes take 5 s at most. */
const ANSWER_MS = 10_000;
/** How long a Stream that is replaced is read on, for what is on its way through its node. */
const LEAVE_MS = 1_000;
/** At most this long before opening again what did not begin, if the gateway names no time. */
const AGAIN_MS = 4_000;
/** Publications on a page of history, if nobody says how many. */
const PAGE = 100;
/** A connection's life under one Token is at most a day. */
const LIFE_MS = 86_400_000;
/** Those of a node that was not told otherwise: no answer over HTTP says them. */
const LIMITS = {
    message_bytes: 65_536,
    subscriptions: 128,
    commands_per_second: 50,
    outbox_bytes: 262_144,
    snapshot_topics: 1_024,
};
/**
 * Where `live` begins: with what is stored after the end of time. To that a node answers in front of what follows, also
 * where nothing is kept; to a mere `live` it does not.
 */
const NEVER = { since: "9999-12-31T00:00:00Z" };
/** Of a `gap`: what was asked for is not kept any more, or never was. */
const TRIMMED = "history_trimmed";
/**
 * The fallback: streams to receive, HTTP to publish. It takes one connection of the six that browsers have for an
 * origin over HTTP/1.1, and two or three for a moment while subscriptions change.
 */
export function sse() {
    return { name: "sse", usable: typeof fetch === "function", open: (url, listener) => new SseLink(url, listener) };
}
class SseLink {
    #root;
    #listener;
    #token;
    /** The Command whose Token is tried; and by which Stream, once there is one. */
    #trial;
    #tried;
    #wanted = new Map();
    /** Who came since it was planned. */
    #new = [];
    /** Who waits to begin, as they are tried together. */
    #parts = [];
    /** Whether Streams bring what nobody wants any more. */
    #fewer = false;
    #next;
    #main;
    #aside;
    #leaving = [];
    /** Until it rings, no other Stream is opened. */
    #pause = new Alarm(() => this.#left());
    /** Publishes leave one after the other, so that none overtakes. */
    #publishes = Promise.resolve();
    constructor(url, listener) {
        this.#root = url.href.replace(/\/$/, "");
        this.#listener = listener;
    }
    send(command) {
        switch (command.type) {
            case "connect":
            case "token":
                this.#trial = command;
                this.#tried = undefined;
                if (command.type === "connect")
                    this.#token = command.token;
                break;
            case "subscribe":
                for (const { topic: pattern, from } of command.topics) {
                    const one = { id: command.id, pattern, matches: matcher(pattern), namespace: namespaceOf(pattern), from };
                    this.#wanted.set(pattern, one);
                    this.#new.push(one);
                }
                break;
            case "unsubscribe":
                this.#wanted.delete(command.topic);
                this.#fewer = true;
                this.#say({ type: "unsubscribed", id: command.id, topic: command.topic });
                break;
            case "publish":
                this.#publishes = this.#publishes.then(() => this.#listener && this.#publish(command));
                return;
            case "history":
                return void this.#history(command);
            case "ping":
                return void this.#check().then((why) => {
                    if (why && wantsToken(why))
                        this.#end(why);
                    this.#say({ type: "pong", id: command.id });
                });
        }
        this.#soon();
    }
    close() {
        this.#listener = undefined;
        this.#pause.clear();
        for (const stream of [this.#next, this.#main, this.#aside, ...this.#leaving])
            stream?.close();
    }
    #say(frame) {
        this.#listener?.frame(frame);
    }
    #end({ code, retryable: retry, retry_after_ms: ms }) {
        const listener = this.#listener;
        this.close();
        listener?.ended({ ...LOST, reason: JSON.stringify({ code, retry, ms }) });
    }
    // Which Streams there are.
    /** Behind all that changes in this turn. */
    #soon() {
        queueMicrotask(() => this.#plan());
    }
    /** Opens one Stream at a time: what changes meanwhile waits. */
    #plan() {
        if (!this.#listener || this.#next || this.#pause.due)
            return;
        this.#sort();
        const staying = [...this.#wanted.values()].filter(({ by }) => by);
        const renewing = this.#trial?.type === "token";
        const part = (!this.#aside && !renewing && this.#parts.shift()) || [];
        const [first] = part;
        const changed = first || this.#aside || renewing || this.#fewer;
        if (first?.alone)
            this.#open(part, first.from, staying.length > 0);
        else if (staying.length + part.length === 0)
            this.#rest();
        else if (changed)
            this.#open([...staying, ...part], NEVER, false);
    }
    /** Finds out who can begin together: all that are live or go on in the same histories; else those with one `from`. */
    #sort() {
        const histories = new Map(this.#main?.places);
        const parts = new Map();
        for (const one of this.#new) {
            if (!this.#isWanted(one))
                continue;
            const cursor = cursorOf(one.from);
            const history = histories.get(one.namespace) ?? cursor ?? "";
            if (cursor)
                histories.set(one.namespace, history);
            one.alone = one.from !== "live" && !(cursor && sameHistory(cursor, history));
            const key = one.alone && JSON.stringify(one.from);
            parts.set(key, [...(parts.get(key) ?? []), one]);
        }
        this.#new = [];
        this.#parts.push(...parts.values());
    }
    #open(wanted, from, aside) {
        this.#fewer &&= aside;
        const places = new Map();
        for (const one of wanted) {
            const cursor = one.by ? one.by.places.get(one.namespace) : cursorOf(one.from);
            const known = places.get(one.namespace);
            if (cursor && (!known || isAfter(known, cursor)))
                places.set(one.namespace, cursor);
        }
        const headers = { ...bearer(this.#candidate), "last-event-id": [...places.values()].join() };
        const query = new URLSearchParams([...wanted.map(({ pattern }) => ["topic", pattern]), ...begin(from)]);
        this.#next = new Stream(`${this.#root}/v1/events?${query}`, headers, wanted, places, aside, this);
        if (this.#trial)
            this.#tried = this.#next;
    }
    /** Nothing is listened to. What else is to be known of the Token, a publish of nothing says. */
    #rest() {
        this.#main?.close();
        this.#aside?.close();
        this.#main = this.#aside = undefined;
        const trial = this.#trial;
        if (trial) {
            void this.#check().then((why) => trial === this.#trial && (why ? this.#rejected(why) : this.#accepted()));
        }
        else if (this.#parts.length > 0)
            this.#soon();
    }
    #caughtUp(stream) {
        this.#next = undefined;
        for (const one of on(stream))
            one.by = stream;
        if (stream.aside) {
            this.#aside = stream;
            return this.#soon();
        }
        this.#leaving = [this.#main, this.#aside];
        this.#main = stream;
        this.#aside = undefined;
        const mayMiss = this.#leaving.some((old) => on(old).some(({ namespace }) => !old?.places.has(namespace)));
        if (mayMiss)
            this.#pause.set(LEAVE_MS);
        else
            this.#left();
    }
    #left() {
        for (const stream of this.#leaving)
            stream?.close();
        this.#leaving = [];
        this.#soon();
    }
    ended(stream, why) {
        if (this.#leaving.includes(stream))
            return;
        if (stream !== this.#next)
            return this.#end(why);
        this.#next = undefined;
        const tried = this.#tried === stream ? this.#trial : undefined;
        const bad = wantsToken(why) && this.#candidate;
        if (bad && tried)
            this.#rejected(why);
        else if (bad || (why.retryable && !this.#main))
            this.#end(why);
        else if (why.retryable)
            this.#tryAgain(stream, why.retry_after_ms);
        // It covers less: what no more, that shows when all of it begins anew.
        else if (tried?.type === "token")
            this.#end(lost());
        else
            this.#blame(stream, why);
    }
    /** It did not begin for now. What there is goes on meanwhile. */
    #tryAgain(stream, ms = AGAIN_MS * Math.random()) {
        for (const one of on(stream)) {
            if (one.by)
                continue;
            const cursor = stream.places.get(one.namespace);
            if (one.answered && cursor)
                one.from = { cursor };
            this.#new.push(one);
        }
        this.#pause.set(ms);
    }
    /** One of those that are not live yet is why it was refused: halves them until it stands alone. */
    #blame(stream, why) {
        const suspects = on(stream).filter((one) => !one.live && this.#isWanted(one));
        const half = this.#aside ? 0 : suspects.length >> 1;
        if (suspects.length === 0 || (half > 0 && suspects.some(({ answered }) => answered)))
            return this.#end(lost());
        if (half > 0)
            this.#parts.unshift(suspects.splice(0, half), suspects.splice(0));
        for (const { id, pattern: topic, answered } of suspects) {
            this.#wanted.delete(topic);
            this.#say(answered ? { type: "unsubscribed", topic, code: why.code } : { ...why, type: "error", id, topic });
        }
        this.#aside?.close();
        this.#aside = undefined;
        this.#soon();
    }
    #isWanted(one) {
        return this.#wanted.get(one.pattern) === one;
    }
    // What Streams bring.
    heard(stream, frame) {
        if (stream === this.#tried)
            this.#accepted();
        switch (frame.type) {
            case "message":
                return this.#message(stream, frame);
            case "gap":
                return this.#gap(stream, frame);
            case "position":
                return this.#position(stream, frame);
            case "bus":
                return this.#say(frame);
            case "ping":
                // Whoever lacks history by now, and got none, is of those that are not kept.
                return this.#begun(stream, [...stream.behind].filter(({ reason }) => reason === TRIMMED));
        }
    }
    /** Who is not live gets it as a part of its own; all who are, together. */
    #message(stream, frame) {
        const { topic, cursor } = frame;
        const namespace = namespaceOf(topic);
        if (cursor !== undefined) {
            if (stream.passed.has(namespace))
                return;
            stream.places.set(namespace, cursor);
            for (const one of stream.wanted.values()) {
                if (one.live || one.from === "live" || !one.matches.test(topic) || !this.#isWanted(one))
                    continue;
                this.#part(one, cursor, 1, true);
                this.#say(frame);
            }
        }
        if (!stream.aside)
            this.#say(frame);
    }
    /** In front it may say no more than that nothing is kept there, and that it has begun. */
    #gap(stream, frame) {
        const one = stream.wanted.get(frame.topic);
        if (!one)
            return;
        const { from, namespace, answered, by } = one;
        const { since } = from;
        if (!answered && from !== "live")
            one.reason ??= frame.reason;
        const inFront = stream.behind.has(one) && frame.reason === TRIMMED;
        if (inFront && (by || !since) && !stream.places.has(namespace))
            this.#begun(stream, [one]);
        else if (answered && this.#isWanted(one))
            this.#say(frame);
    }
    #position(stream, frame) {
        const { namespace, cursor } = frame;
        if (stream.passed.has(namespace))
            return;
        stream.places.set(namespace, cursor);
        const begun = [...stream.behind].filter((one) => one.namespace === namespace);
        if (stream === this.#next && !stream.aside)
            for (const old of [this.#main, this.#aside])
                old?.passed.add(namespace);
        this.#begun(stream, begun, cursor);
        if (!stream.aside)
            this.#say(frame);
    }
    /** They have all that they missed. */
    #begun(stream, all, cursor) {
        for (const one of all) {
            stream.behind.delete(one);
            if (!stream.aside && !one.live && this.#isWanted(one))
                this.#part(one, cursor, 0, false);
        }
        if (stream === this.#next && stream.behind.size === 0)
            this.#caughtUp(stream);
    }
    #part(one, cursor, replayed, more) {
        const { id, pattern: topic, reason, answered } = one;
        one.answered = true;
        one.live = !more;
        const recovered = !reason;
        if (answered)
            this.#say({ type: "replay", topic, replayed, more });
        else
            this.#say({ type: "subscribed", id, topic, cursor, recovered, reason, replayed, more });
    }
    /** The Token that was tried is good. */
    #accepted() {
        const trial = this.#trial;
        if (!trial)
            return;
        const { type, id, token } = trial;
        const about = { id, expires_at: endOf(token) };
        this.#trial = this.#tried = undefined;
        this.#token = token;
        this.#soon();
        if (type === "token")
            return this.#say({ type, ...about });
        this.#say({
            type: "connected",
            ...about,
            connection: `${Math.random()}`,
            node: this.#root,
            // Each Stream is watched by itself; without one, nothing need be.
            heartbeat_ms: Infinity,
            limits: LIMITS,
        });
    }
    #rejected(why) {
        const trial = this.#trial;
        if (trial?.type !== "token")
            return this.#end(why);
        this.#trial = this.#tried = undefined;
        this.#say({ ...why, type: "error", id: trial.id });
        this.#soon();
    }
    // Plain HTTP.
    async #publish({ type, id, ...item }) {
        const { answer, why = answer.results[0] } = await this.#ask("/v1/publish", { messages: [item] });
        if (why.code)
            this.#refused(id, why);
        else
            this.#say({ ...why, type: "published", id, message_id: why.id });
    }
    async #history({ id, topic, from, limit = PAGE }) {
        const query = new URLSearchParams([...begin(from), ["limit", `${limit}`]]);
        const { answer, why } = await this.#ask(`/v1/topics/${encodeURIComponent(topic)}/messages?${query}`);
        if (why)
            this.#refused(id, why);
        else
            this.#say({ ...answer, type: "history", id });
    }
    /** Asks for nothing, to hear whether there is a gateway that takes this Token. */
    async #check() {
        return (await this.#ask("/v1/publish", { messages: [] }, this.#candidate)).why;
    }
    #refused(id, why) {
        this.#say({ ...why, type: "error", id });
        if (wantsToken(why) && this.#token)
            this.#end(why);
    }
    /** If no answer comes, the Link ends. */
    async #ask(path, body, token = this.#token) {
        const signal = AbortSignal.timeout(ANSWER_MS);
        const post = body && { method: "POST", body: JSON.stringify(body) };
        try {
            const response = await fetch(this.#root + path, { ...post, headers: bearer(token), signal });
            return response.ok ? { answer: await response.json() } : { why: await problem(response) };
        }
        catch {
            this.#end(lost());
            return new Promise(() => { });
        }
    }
    /** The Token that is tried, or the one that is good. */
    get #candidate() {
        return this.#trial?.token ?? this.#token;
    }
}
function bearer(token) {
    return token ? { authorization: `Bearer ${token}` } : {};
}
function on(stream) {
    return [...(stream?.wanted.values() ?? [])];
}
/** The first segment. */
function namespaceOf(pattern) {
    return pattern.replace(/\..*/, "");
}
function cursorOf(from) {
    return typeof from === "object" && "cursor" in from ? from.cursor : undefined;
}
/** As a query has it. */
function begin(from) {
    return Object.entries(typeof from === "string" ? { from } : (from ?? {}));
}
/** When a Token ends, by its own word: nobody else's comes over HTTP. */
function endOf(token) {
    try {
        const { exp } = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
        return new Date(Math.min(exp * 1_000, Date.now() + LIFE_MS)).toISOString();
    }
    catch {
        return undefined;
    }
}
