// A LiveMap: the newest value of each Topic that a Pattern matches. A dashboard's table.
import { Events } from "./events.js";
/** Losses that the next values make good by themselves. */
const HARMLESS = ["history_trimmed", "conflated"];
/** The one map of a Pattern, for all who asked for it. */
export class Table {
    #synced = Promise.withResolvers();
    #users = 0;
    #subscribe;
    #subscription;
    #shown = new Map();
    /** The last that was handed out, while nothing has changed. */
    #snapshot;
    /** What is on its way to be shown. */
    #coming;
    #bus = true;
    #stale = true;
    #changes = new Events();
    #telling = false;
    /** `subscribe` begins with the newest values. */
    constructor(subscribe) {
        this.#subscribe = subscribe;
        this.#synced.promise.catch(() => { }); // Whoever asks is told; nobody has to.
        this.#sync();
    }
    /** Whether it never changes again: nobody uses it, or it was refused. */
    get ended() {
        return this.#subscription?.state === "ended";
    }
    /** Whether the node reaches the others. */
    bus(connected) {
        this.#bus = connected;
        this.#judge();
    }
    /** For one more. It ends with the last. */
    use() {
        const table = this;
        this.#users += 1;
        let used = true;
        return {
            synced: table.#synced.promise,
            get stale() {
                return table.#stale;
            },
            get: (topic) => table.#shown.get(topic),
            snapshot: () => (table.#snapshot ??= new Map(table.#shown)),
            subscribe: (changed) => table.#changes.on("change", changed),
            async [Symbol.asyncDispose]() {
                const last = used && --table.#users === 0;
                used = false;
                if (last)
                    await table.#subscription?.unsubscribe();
            },
        };
    }
    /** Reads all of it, and shows it when it is complete. */
    #sync() {
        const coming = (this.#coming = new Map());
        void this.#subscription?.unsubscribe();
        const subscription = this.#subscribe();
        this.#subscription = subscription;
        subscription.on("message", (publication) => this.#take(publication));
        subscription.on("gap", (gap) => this.#gap(gap));
        subscription.on("state", () => this.#judge());
        subscription.ready.then(() => this.#coming === coming && this.#show(coming), (error) => this.#coming === coming && this.#synced.reject(error));
    }
    #show(coming) {
        this.#coming = undefined;
        this.#shown = coming;
        this.#synced.resolve();
        this.#changed();
        this.#judge();
    }
    #take({ topic, data, deleted }) {
        const values = this.#coming ?? this.#shown;
        if (deleted)
            values.delete(topic);
        else
            values.set(topic, data);
        if (!this.#coming)
            this.#changed();
    }
    /** Where nothing is kept there are no newest values to be had: what comes next has to do. */
    #gap({ reason, resumed }) {
        const kept = this.#subscription?.cursor !== undefined;
        if (kept && (resumed || !HARMLESS.includes(reason)))
            this.#sync();
    }
    #judge() {
        const stale = this.#coming !== undefined || this.#subscription?.state !== "live" || !this.#bus;
        if (stale !== this.#stale)
            this.#tell();
        this.#stale = stale;
    }
    #changed() {
        this.#snapshot = undefined;
        this.#tell();
    }
    /** Once for all that changes in one turn. */
    #tell() {
        if (this.#telling)
            return;
        this.#telling = true;
        queueMicrotask(() => {
            this.#telling = false;
            this.#changes.emit("change", undefined);
        });
    }
}
