// The client: what an application holds. It keeps its Feeds, its maps and its Asks, and gives them to the Line.
import { Events, onAbort } from "./events.js";
import { Feed } from "./feed.js";
import { Line } from "./line.js";
import { Table } from "./live.js";
import { patternOf } from "./pattern.js";
import { FeedSubscription } from "./subscription.js";
import { topicOf } from "./topic.js";
export function createClient(options = {}) {
    return new Core(options);
}
export class Core {
    #events = new Events();
    on = this.#events.on;
    #line;
    #feeds = new Map();
    #tables = new Map();
    /** Whether Feeds have changed in this turn. */
    #changed = false;
    #cursors;
    /** Those whose places are stored. */
    #remembered = new Set();
    constructor(options) {
        this.#cursors = options.cursors || undefined;
        this.#line = new Line(options, this, this.#events);
        this.on("bus", ({ connected }) => {
            for (const table of this.#tables.values())
                table.bus(connected);
        });
        onAbort(options.signal, () => void this.close());
    }
    // What the application asks for.
    get state() {
        return this.#line.state;
    }
    get connection() {
        return this.#line.connection;
    }
    get retryAt() {
        return this.#line.retryAt;
    }
    connect({ signal } = {}) {
        const { promise, resolve, reject } = Promise.withResolvers();
        const look = () => {
            if (this.connection)
                resolve(this.connection);
            if (this.state === "closed")
                reject(this.#line.why);
        };
        const stops = [this.on("state", look), onAbort(signal, () => reject(signal?.reason))];
        look();
        this.#line.wake();
        return promise.finally(() => stops.forEach((stop) => stop()));
    }
    async close() {
        this.#line.end();
    }
    [Symbol.asyncDispose]() {
        return this.close();
    }
    topic(name) {
        return topicOf(this, name);
    }
    pattern(name) {
        return patternOf(this, name);
    }
    // What Topics, Patterns and Subscriptions ask for.
    subscribe(pattern, from, receive, options) {
        const cursor = from === undefined ? this.#cursors?.get(pattern) : undefined;
        const begin = from ?? (cursor === undefined ? "live" : { cursor });
        const subscription = new FeedSubscription(this, pattern, begin, receive, options);
        if (from === undefined && this.#cursors)
            this.#remembered.add(subscription);
        return subscription;
    }
    live(pattern, signal) {
        for (const [name, table] of this.#tables)
            if (table.ended)
                this.#tables.delete(name);
        const table = this.#tables.get(pattern) ?? new Table(() => this.subscribe(pattern, "last", undefined, {}));
        this.#tables.set(pattern, table);
        const map = table.use();
        onAbort(signal, () => void map[Symbol.asyncDispose]());
        return map;
    }
    enter(pattern, receiver) {
        if (this.state === "closed")
            return queueMicrotask(() => receiver.end(this.#line.why));
        const feed = this.#feeds.get(pattern) ?? new Feed(pattern, receiver.from, this);
        this.#feeds.set(pattern, feed);
        feed.add(receiver);
        this.changed();
        this.#line.wake();
    }
    leave(pattern, receiver) {
        const feed = this.#feeds.get(pattern);
        feed?.remove(receiver);
        this.remember();
        if (!feed?.empty)
            return;
        feed.end();
        this.#feeds.delete(pattern);
        this.changed();
    }
    ask(command, signal) {
        return this.#line.ask(command, signal);
    }
    /** Asks whether the gateway is there, and ends the connection if it is not; the answer is a `latency`. */
    awake() {
        this.#line.awake();
    }
    // What Feeds ask for.
    changed() {
        if (this.#changed)
            return;
        this.#changed = true;
        queueMicrotask(() => {
            this.#changed = false;
            this.#line.sync();
        });
    }
    forget(feed, but) {
        this.#line.forget(feed, but);
        this.changed();
    }
    // What the Line asks for, and tells.
    feeds() {
        return [...this.#feeds.values()].filter(({ wanted }) => wanted);
    }
    /** Stores how far Subscriptions have come. */
    remember() {
        for (const subscription of this.#remembered) {
            const { pattern, cursor } = subscription;
            if (cursor !== undefined)
                this.#cursors?.set(pattern, cursor);
            if (subscription.state === "ended")
                this.#remembered.delete(subscription);
        }
    }
    closed(error) {
        this.remember();
        for (const feed of [...this.#feeds.values()])
            feed.end(error);
    }
}
