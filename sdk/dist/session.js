// A Session: one Link's conversation. Which Reply is for whom, whose a Publication is, and whether anybody is
// there at all.
//
// It knows no other Session and does not come back: the client makes the next one. What it subscribes to follows
// from the Feeds that it is given.
import { Alarm } from "./alarm.js";
import { LOST, verdict } from "./close.js";
import { CLIENT, TOPICS_PER_SUBSCRIBE } from "./codec.js";
import { refusal, TidegateError } from "./error.js";
import { canonical } from "./pattern.js";
import { publication } from "./publication.js";
/** Until `connected`; a node waits as long. */
const CONNECT_MS = 10_000;
/** Beyond the node's own heartbeat. */
const SILENCE_MS = 10_000;
/** For the answer to a ping that is sent in doubt. */
const PROBE_MS = 3_000;
/** Nodes repeat the first 200 characters of a Pattern in an error. */
const ERROR_TOPIC_MAX = 200;
export class Session {
    transport;
    #link;
    #listener;
    #connected = false;
    #ended = false;
    #id = 0;
    #asks = new Map();
    #places = new Map();
    #part;
    #pinged;
    /** The `id` of a Token that is on its way. */
    #renewing;
    #heardAt = Date.now();
    #probedAt;
    #patienceMs = CONNECT_MS;
    #watch = new Alarm((late) => this.#look(late));
    /** Dials, and says all that there is to say at once. */
    constructor(transport, url, token, feeds, listener) {
        this.transport = transport.name;
        this.#listener = listener;
        this.#link = transport.open(url, this);
        this.#watch.set(CONNECT_MS);
        this.#link.send({ type: "connect", id: ++this.#id, token, client: CLIENT, heartbeat: "message" });
        this.sync(feeds);
    }
    /** Makes what is subscribed to on this Link equal to `feeds`. */
    sync(feeds) {
        const wanted = new Set(feeds);
        for (const { feed } of [...this.#places.values()])
            if (!wanted.has(feed))
                this.forget(feed);
        const missing = [...wanted].filter((feed) => !this.#places.has(feed.pattern));
        while (missing.length > 0) {
            const asked = ++this.#id;
            const topics = missing.splice(0, TOPICS_PER_SUBSCRIBE).map((feed) => {
                this.#places.set(feed.pattern, { feed, asked, phase: "asked" });
                return { topic: feed.pattern, from: feed.start() };
            });
            this.#link.send({ type: "subscribe", id: asked, topics });
        }
    }
    /** Ends a Feed's Subscription on this Link. */
    forget(feed) {
        if (this.#places.get(feed.pattern)?.feed !== feed)
            return;
        this.#remove(feed.pattern);
        this.#link.send({ type: "unsubscribe", id: ++this.#id, topic: feed.pattern });
    }
    ask(ask) {
        this.#asks.set(++this.#id, ask);
        ask.sent();
        this.#link.send({ ...ask.command, id: this.#id });
    }
    renew(token) {
        this.#renewing = ++this.#id;
        this.#link.send({ type: "token", id: this.#renewing, token });
    }
    ping() {
        this.#pinged = { id: ++this.#id, at: Date.now() };
        this.#link.send({ type: "ping", id: this.#id });
    }
    /** Asks whether anybody is there, and ends it if nobody answers. */
    probe() {
        this.#probedAt = Date.now();
        this.ping();
        this.#watch.set(PROBE_MS);
    }
    /** From this side, without a word to the listener. */
    close() {
        this.#link.close();
        this.#stop();
    }
    // What the Link tells.
    frame(frame) {
        if (this.#ended)
            return;
        this.#heardAt = Date.now();
        switch (frame.type) {
            case "message":
                return this.#message(frame);
            case "connected":
                return this.#welcome(frame);
            case "subscribed":
                return this.#subscribed(frame);
            case "replay":
                return this.#begin({
                    place: this.#begun(frame.topic),
                    left: frame.replayed,
                    more: frame.more,
                    cursor: undefined,
                });
            case "unsubscribed":
                if (frame.code !== undefined)
                    this.#turnedOut(frame.topic, frame.code);
                return;
            case "gap":
                return this.#begun(frame.topic)?.feed.gap({ reason: frame.reason, missed: frame.missed, resumed: false });
            case "position":
                return this.#each(({ pattern }) => `${pattern}.`.startsWith(`${frame.namespace}.`), (feed) => feed.position(frame.cursor, this));
            case "published":
            case "history":
                return this.#asked(frame.id)?.answered(frame);
            case "error":
                return this.#error(frame);
            case "ping":
                return this.#link.send({ type: "pong" });
            case "pong":
                return this.#pong(frame.id);
            case "token":
                return this.#listener.renewed(this, frame.expires_at);
            case "bus":
                return this.#listener.bus(this, frame.connected);
            case "going_away":
                return this.#listener.goingAway(this, frame.reconnect_in_ms);
        }
    }
    ended(close) {
        if (this.#ended)
            return;
        this.#stop();
        this.#listener.ended(this, verdict(close));
    }
    #welcome(frame) {
        this.#connected = true;
        this.#patienceMs = frame.heartbeat_ms + SILENCE_MS;
        this.#watch.set(this.#patienceMs);
        this.#listener.connected(this, frame);
        this.ping();
        this.#settle();
    }
    // What comes between an `unsubscribe` and its Reply is still that of the Subscription before: a place that has only
    // been asked for takes part in nothing but its own `subscribed`.
    #begun(topic) {
        const place = this.#places.get(topic);
        return place?.phase === "asked" ? undefined : place;
    }
    #subscribed(frame) {
        let place = this.#places.get(frame.topic);
        if (place?.asked !== (frame.id ?? place?.asked))
            place = undefined;
        place?.feed.subscribed(frame);
        this.#begin({ place, left: frame.replayed, more: frame.more, cursor: frame.cursor });
    }
    #begin(part) {
        if (part.place?.phase === "over")
            part.place = undefined;
        if (part.place)
            part.place.phase = "replaying";
        this.#part = part;
        if (part.left === 0)
            this.#finish(part);
    }
    #finish({ place, more, cursor }) {
        this.#part = undefined;
        if (cursor !== undefined)
            place?.feed.position(cursor, this);
        if (!place || more || place.phase === "over")
            return;
        place.phase = "live";
        place.feed.live(this);
        this.#settle();
    }
    #message(frame) {
        const part = this.#part;
        if (part) {
            if (part.place)
                part.place.feed.take(publication(frame, true), this);
            part.left -= 1;
            if (part.left === 0 && this.#part === part)
                this.#finish(part);
            return;
        }
        const live = publication(frame, false);
        this.#each(({ matches }) => matches.test(frame.topic), (feed) => feed.take(live, this));
    }
    /** Tells the Feeds that are live. */
    #each(whom, tell) {
        for (const { feed, phase } of [...this.#places.values()])
            if (phase === "live" && whom(feed))
                tell(feed);
    }
    #error(frame) {
        const error = refusal(frame);
        const id = frame.id ?? 0;
        const ask = this.#asked(id);
        if (ask)
            return ask.fail(error);
        if (id === this.#renewing)
            return this.#listener.notRenewed(error);
        const refused = [...this.#places.values()].filter(({ feed, asked, phase }) => asked === id &&
            phase === "asked" &&
            (frame.topic === undefined || canonical(frame.topic) === feed.pattern.slice(0, ERROR_TOPIC_MAX)));
        for (const { feed } of refused) {
            // If it is there already, an `unsubscribe` was refused before, as of too many Commands: once more.
            if (error.code === "already_subscribed")
                this.forget(feed);
            else
                this.#remove(feed.pattern);
            feed.refused(error);
        }
        if (refused.length > 0)
            this.#settle();
        else if (error.code === "not_subscribed")
            return; // Of a Subscription that was given up before it began.
        else
            this.#listener.refused(error);
    }
    /** The Ask of that `id`, which is over. */
    #asked(id) {
        const ask = this.#asks.get(id);
        this.#asks.delete(id);
        return ask;
    }
    #turnedOut(topic, code) {
        const place = this.#begun(topic);
        if (!place)
            return;
        this.#remove(topic);
        place.feed.end(new TidegateError(code, `no longer allowed: ${topic}`));
    }
    #remove(pattern) {
        const place = this.#places.get(pattern);
        this.#places.delete(pattern);
        if (this.#part?.place === place)
            this.#part.place = undefined;
        if (!place)
            return;
        place.phase = "over";
        place.feed.lost(this);
    }
    #pong(id) {
        const pinged = this.#pinged;
        if (pinged?.id !== id)
            return;
        this.#pinged = undefined;
        this.#listener.latency(Math.max(0, Date.now() - pinged.at));
    }
    #settle() {
        const live = [...this.#places.values()].every(({ phase }) => phase === "live");
        if (this.#connected && live)
            this.#listener.settled(this);
    }
    /** Judges the silence. Who has slept asks first: what came meanwhile may still wait to be read. */
    #look(late) {
        const now = Date.now();
        const alive = this.#connected && this.#heardAt >= (this.#probedAt ?? now - this.#patienceMs + 1);
        this.#probedAt = undefined;
        if (alive)
            return this.#watch.set(this.#patienceMs + Math.min(0, this.#heardAt - now));
        if (late)
            return this.probe();
        this.#link.close();
        this.ended(LOST);
    }
    #stop() {
        this.#ended = true;
        this.#connected = false;
        this.#watch.clear();
        for (const { feed } of this.#places.values())
            feed.lost(this);
        this.#places.clear();
        for (const ask of this.#asks.values())
            ask.unanswered();
        this.#asks.clear();
    }
}
