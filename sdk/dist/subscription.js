// A Subscription: what one part of an application receives of a Pattern, and how that goes.
import { EPOCH_CHANGED, Place } from "./cursor.js";
import { TidegateError } from "./error.js";
import { Events, onAbort } from "./events.js";
import { Queue } from "./queue.js";
export class FeedSubscription {
    pattern;
    from;
    state = "pending";
    #client;
    #options;
    #events = new Events();
    #begun = Promise.withResolvers();
    #replayed = 0;
    /** The first loss. */
    #loss;
    /** Whether it comes back from a pause. */
    #returning = false;
    /** The last that it was given; and the last that its loop has taken. */
    #place = new Place();
    #taken;
    /** For the loop, which may begin later; gone as soon as it shows that there is none. */
    #queue;
    #looping = false;
    /** Listens to the signal no more. */
    #deafen = () => { };
    constructor(client, pattern, from, receive, options) {
        this.#client = client;
        this.pattern = pattern;
        this.from = from;
        this.#options = options;
        this.ready.catch(() => { }); // Whoever asks is told; nobody has to.
        if (receive)
            this.on("message", receive);
        else
            this.#queue = new Queue(options.queue);
        client.enter(pattern, this);
        this.#deafen = onAbort(options.signal, () => this.end());
    }
    get ready() {
        return this.#begun.promise;
    }
    get cursor() {
        return this.#queue?.size ? this.#taken : this.#place.cursor;
    }
    on = (event, listener, options) => {
        if (event === "message" && !this.#looping)
            this.#queue = undefined;
        return this.#events.on(event, listener, options);
    };
    pause() {
        if (this.state === "paused" || this.state === "ended")
            return;
        if (this.#place.cursor)
            this.from = { cursor: this.#place.cursor };
        else if (this.state === "live")
            this.from = "live";
        this.#client.leave(this.pattern, this);
        this.#show("paused");
    }
    resume() {
        if (this.state !== "paused")
            return;
        this.#returning = true;
        this.#show("recovering");
        this.#client.enter(this.pattern, this);
    }
    async unsubscribe() {
        this.end();
    }
    [Symbol.asyncDispose]() {
        return this.unsubscribe();
    }
    async *[Symbol.asyncIterator]() {
        this.#looping = true;
        const queue = (this.#queue ??= new Queue(this.#options.queue));
        if (this.state === "ended")
            queue.end();
        try {
            for await (const publication of queue) {
                this.#taken = publication.cursor;
                yield publication;
            }
        }
        finally {
            this.end();
        }
    }
    // What its Feed tells.
    take(publication) {
        const { cursor, replayed, topic } = publication;
        if (cursor !== undefined && !this.#reach(cursor))
            return;
        if (replayed)
            this.#replayed += 1;
        const { validate } = this.#options;
        try {
            const valid = validate && !publication.deleted ? { ...publication, data: validate(publication.data) } : publication;
            this.#give(valid);
        }
        catch (cause) {
            this.error(new TidegateError("invalid_data", `not valid on ${topic}`, { cause }));
        }
    }
    position(cursor) {
        this.#reach(cursor);
    }
    gap(gap) {
        this.#loss ??= gap.reason;
        if (gap.reason === EPOCH_CHANGED)
            this.#place.outdated = true;
        this.#events.emit("gap", { ...gap, resumed: gap.resumed || this.#returning });
    }
    live() {
        if (this.#returning && !this.#place.cursor)
            this.gap({ reason: "connection_lost", resumed: true });
        this.#returning = false;
        this.#begun.resolve({ recovered: this.#loss === undefined, replayed: this.#replayed, reason: this.#loss });
        this.#show("live");
    }
    lost() {
        this.#show("recovering");
    }
    error(error) {
        this.#events.emit("error", error);
    }
    end(error) {
        if (this.state === "ended")
            return;
        this.#client.leave(this.pattern, this);
        this.#deafen();
        this.#begun.reject(error ?? new TidegateError("closed", "ended"));
        this.#queue?.end(error);
        this.#show("ended");
        if (error)
            this.error(error);
    }
    /** Whether that lies behind its place. */
    #reach(cursor) {
        if (this.#place.denies(cursor))
            this.gap({ reason: EPOCH_CHANGED, resumed: this.state !== "live" });
        return this.state !== "ended" && this.#place.advance(cursor);
    }
    #give(publication) {
        const queue = this.#queue;
        if (queue?.full && queue.onFull === "end") {
            return this.end(new TidegateError("slow_consumer", "too slow"));
        }
        const missed = queue?.push(publication);
        if (missed)
            this.gap({ reason: queue?.onFull === "latest" ? "conflated" : "slow_consumer", missed, resumed: false });
        this.#events.emit("message", publication);
    }
    #show(state) {
        if (state === this.state)
            return;
        this.state = state;
        this.#events.emit("state", state);
    }
}
