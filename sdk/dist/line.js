// The Line: one connection to a gateway for as long as somebody wants it, across all that a network and a browser do
// to it. When to dial, when to wait, when to move to another node, when to rest.
//
// Each connection is a Session, which ends once; this makes the next one. What is subscribed to and asked for is
// its owner's; it carries that from one Session to the other.
//
//     idle ── wake ──▶ connecting ──▶ connected ─── lost ──▶ waiting ──▶ connecting …
//                          ▲              │ hidden, left       │ refused
//                          └── paused ◀───┴────────────────────┴──────▶ closed
import { Alarm } from "./alarm.js";
import { Ask } from "./ask.js";
import { Backoff } from "./backoff.js";
import { TidegateError, Unauthorized } from "./error.js";
import { watchPage } from "./page.js";
import { Session } from "./session.js";
import { Tokens } from "./token.js";
import { webSocket } from "./transport.js";
/** How long a connection that is moved away from is read on, for what is on its way through its node. */
const LEAVE_MS = 1_000;
/** Publishes and pages of history that wait for their answers. */
const ASKS_MAX = 256;
export class Line {
    /** Why nothing can be asked of it any more. */
    why;
    connection;
    state = "idle";
    #options;
    #owner;
    #events;
    #transports;
    /** How many of them could not even begin since the last connection. */
    #failed = 0;
    #tokens;
    #asks = new Set();
    /** Whether a Token was rejected since the last connection that held. */
    #rejected = false;
    #phase = "idle";
    #offline = globalThis.navigator?.onLine === false;
    #bus = true;
    /** Connected, and wants nothing, as the page is hidden. */
    #muted = false;
    /** The one that counts. While the Line moves, `#next` takes over from it, and then it is `#old`. */
    #session;
    #next;
    #old;
    /** Counts dials, to know the Token that comes too late for one. */
    #dials = 0;
    #backoff;
    #retry = new Alarm(() => this.#dial("connect"));
    #slot = new Alarm(() => this.#move());
    #leave = new Alarm(() => this.#closeOld());
    #hide = new Alarm(() => this.#rest());
    #stable = new Alarm(() => {
        this.#backoff.reset();
        this.#rejected = false;
    });
    #unwatch;
    constructor(options, owner, events) {
        this.#options = options;
        this.#owner = owner;
        this.#events = events;
        this.#transports = (options.transports ?? [webSocket()]).filter(({ usable }) => usable);
        this.#tokens = new Tokens(options.token, () => this.#renew());
        this.#backoff = new Backoff(options.retry);
        this.#unwatch = watchPage(this);
    }
    get retryAt() {
        return this.#retry.due;
    }
    /** The gateway's root. */
    get #url() {
        const { url = location.origin } = this.#options;
        const root = new URL(url, globalThis.location?.href);
        root.protocol = root.protocol.replace("ws", "http");
        return root;
    }
    /** Somebody wants something. */
    wake() {
        if (this.#phase === "idle")
            this.#dial("connect");
    }
    /** What is to be subscribed to has changed. */
    sync() {
        for (const session of [this.#session, this.#next])
            session?.sync(this.#wanted());
    }
    /** Ends its Subscription, wherever else it is. */
    forget(feed, but) {
        for (const session of this.#sessions())
            if (session !== but)
                session.forget(feed);
    }
    /** Waits for an answer, if need be for a connection first. */
    async ask(command, signal) {
        if (this.why)
            throw this.why;
        signal?.throwIfAborted();
        if (this.#asks.size >= ASKS_MAX)
            throw new TidegateError("overloaded", "too many wait", { retryable: true });
        const ask = new Ask(command, signal, !!this.#options.token);
        this.#asks.add(ask);
        if (this.connection)
            this.#session?.ask(ask);
        this.wake();
        try {
            return await ask.answer;
        }
        finally {
            this.#asks.delete(ask);
        }
    }
    /** For good. */
    end(refusal) {
        if (this.why)
            return;
        this.why = refusal ?? new TidegateError("closed", "closed");
        this.#hangUp();
        this.#hide.clear();
        this.#tokens.close();
        this.#unwatch();
        this.#show("closed");
        if (refusal)
            this.#events.emit("error", refusal);
        this.#owner.closed(refusal);
        for (const ask of this.#asks)
            ask.fail(this.why);
    }
    // Dialling.
    #dial(reason) {
        this.#dials += 1;
        this.#retry.clear();
        this.#show("connecting");
        this.#withToken(reason, (token) => (this.#session = this.#open(token)));
    }
    /** To another node, while this one still delivers. If it fails, the end of this one is told as any. */
    #move() {
        this.#withToken("connect", (token) => (this.#next = this.#open(token)));
    }
    #renew() {
        if (this.connection)
            this.#withToken("expiring", (token) => token && this.#session?.renew(token));
    }
    #open(token) {
        const transport = this.#transports[this.#failed % this.#transports.length];
        try {
            if (transport)
                return new Session(transport, this.#url, token, this.#wanted(), this);
            throw new Error("no usable transport");
        }
        catch (cause) {
            this.end(new TidegateError("not_supported", String(cause), { cause }));
            return undefined;
        }
    }
    /** Unless it comes so late that nobody wants it any more. */
    #withToken(reason, use) {
        const dial = this.#dials;
        this.#tokens.get(reason).then((token) => dial === this.#dials && use(token), (error) => dial === this.#dials && this.#noToken(error));
    }
    #noToken(cause) {
        if (cause instanceof Unauthorized) {
            return this.end(new TidegateError("unauthenticated", cause.message || "no Token", { cause }));
        }
        this.refused(new TidegateError("unauthenticated", "no Token", { retryable: true, cause }));
        if (this.#session)
            this.#tokens.askAgain();
        else
            this.#wait();
    }
    /** At a time that was told, or at random. */
    #wait(ms) {
        this.#retry.set(ms ?? this.#backoff.next());
        this.#show("waiting");
    }
    #closeOld() {
        this.#leave.clear();
        this.#old?.close();
        this.#old = undefined;
    }
    /** Without a word: nobody is lost who says goodbye. */
    #hangUp() {
        this.#dials += 1;
        for (const alarm of [this.#retry, this.#slot, this.#leave, this.#stable])
            alarm.clear();
        const sessions = this.#sessions();
        this.connection = this.#session = this.#next = this.#old = undefined;
        for (const session of sessions)
            session.close();
    }
    #sessions() {
        return [this.#session, this.#next, this.#old].filter((session) => session !== undefined);
    }
    #wanted() {
        return this.#muted ? [] : this.#owner.feeds();
    }
    // What Sessions tell.
    connected(session, frame) {
        if (session === this.#next) {
            this.#closeOld();
            this.#old = this.#session;
            this.#session = session;
            this.#next = undefined;
        }
        this.#failed = 0;
        this.#offline = false;
        this.connection = describe(frame, session.transport);
        this.#tokens.accepted(this.connection.expiresAt);
        this.#stable.set(this.#backoff.retry.stableAfterMs);
        this.#tellBus(true);
        this.#show("connected");
        session.sync(this.#wanted());
        for (const ask of this.#asks)
            if (ask.waits)
                session.ask(ask);
    }
    /** All is live here, so the one before may go. */
    settled(session) {
        if (session === this.#session && this.#old && !this.#leave.due)
            this.#leave.set(LEAVE_MS);
    }
    goingAway(session, ms) {
        if (session === this.#session)
            this.#slot.set(ms);
    }
    bus(session, connected) {
        if (session === this.#session)
            this.#tellBus(connected);
    }
    latency(ms) {
        this.#events.emit("latency", { ms });
        this.#offline = false;
        this.#show(this.#phase);
    }
    renewed(session, expiresAt) {
        if (session !== this.#session || !this.connection)
            return;
        this.connection = { ...this.connection, expiresAt: date(expiresAt) };
        this.#tokens.accepted(this.connection.expiresAt);
    }
    notRenewed(error) {
        this.refused(error);
        this.#tokens.askAgain();
    }
    refused(error) {
        this.#events.emit("error", error);
    }
    ended(session, end) {
        if (session === this.#old)
            return this.#closeOld();
        if (session === this.#next)
            return void (this.#next = undefined);
        const held = this.connection;
        const slot = this.#slot.due;
        this.#hangUp();
        if (!held && end.code === "connection_lost")
            this.#failed += 1;
        if (end.freshToken && this.#tokens.renewable && !this.#rejected) {
            this.#rejected = true;
            return this.#dial("rejected");
        }
        const retryAfterMs = slot ? slot.getTime() - Date.now() : end.ms;
        if (end.retry && !this.#backoff.exhausted)
            return this.#wait(retryAfterMs);
        this.end(new TidegateError(end.code, end.code, { retryable: end.retry, retryAfterMs }));
    }
    // What the browser tells.
    online() {
        this.#offline = false;
        this.#show(this.#phase);
        if (this.#phase === "waiting")
            this.#dial("connect");
        if (this.connection)
            this.#session?.probe();
    }
    /** Browsers guess: an open connection stays, and its answer to a ping says that they were wrong. */
    offline() {
        this.#offline = true;
        this.#show(this.#phase);
        if (this.connection)
            this.#session?.ping();
    }
    /** Visible or thawed. */
    awake() {
        this.#hide.clear();
        if (this.#muted) {
            this.#muted = false;
            this.#show(this.#phase);
            this.sync();
        }
        if (this.#phase === "paused")
            return this.#dial("connect");
        this.#retry.check();
        if (this.connection)
            this.#session?.probe();
    }
    hidden() {
        this.#owner.remember();
        const { hidden } = this.#options;
        if (typeof hidden === "object")
            this.#hide.set(hidden.afterMs);
    }
    /** Hidden for long. */
    #rest() {
        const { hidden } = this.#options;
        if (typeof hidden === "object" && hidden.then === "disconnect")
            return this.#pause();
        this.#muted = true;
        this.sync();
        this.#show(this.#phase);
    }
    left() {
        this.#owner.remember();
        this.#pause();
    }
    #pause() {
        if (this.#phase === "idle" || this.#phase === "closed")
            return;
        this.#hangUp();
        this.#show("paused");
    }
    // How it shows.
    #show(phase) {
        this.#phase = phase;
        const state = this.#stateOf(phase);
        if (state === this.state)
            return;
        this.state = state;
        this.#events.emit("state", state);
    }
    #stateOf(phase) {
        if (phase === "idle" || phase === "closed")
            return phase;
        if (this.#muted)
            return "paused";
        return this.#offline && phase !== "paused" ? "offline" : phase;
    }
    #tellBus(connected) {
        if (connected === this.#bus)
            return;
        this.#bus = connected;
        this.#events.emit("bus", { connected });
    }
}
function describe(frame, transport) {
    return {
        id: frame.connection,
        node: frame.node,
        transport,
        expiresAt: date(frame.expires_at),
        heartbeatMs: frame.heartbeat_ms,
        limits: Object.fromEntries(Object.entries(frame.limits).map(([name, limit]) => [camel(name), limit])),
    };
}
function date(text) {
    return text === undefined ? undefined : new Date(text);
}
function camel(name) {
    return name.replace(/_./g, ([, letter]) => letter.toUpperCase());
}
