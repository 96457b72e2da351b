// A Stream: one answer of `GET /v1/events`, from the asking to its end, and how far it has come.
//
// It reads what comes and notices when nothing does. Whose that is, and what follows from its end, is for the Link.
import { createParser } from "./eventsource-parser.js";
import { Alarm } from "./alarm.js";
import { decode } from "./codec.js";
import { lost, problem } from "./problem.js";
/** A node says something every 12 s, if only a comment; beyond that, as long as a Session waits. */
const SILENCE_MS = 12_000 + 10_000;
/** Who has slept listens so long before it judges: what came meanwhile may still wait to be read. */
const AWAKE_MS = 3_000;
export class Stream {
    wanted;
    /** Those that it has not got all of what they missed. */
    behind;
    /** How far each kept Namespace has come. */
    places;
    /** The Namespaces with which another Stream goes on. */
    passed = new Set();
    /** Whether it brings what its Patterns missed, and then waits for another to take them in. */
    aside;
    #stop = new AbortController();
    #listener;
    /** When to come back, if it is cut off. */
    #retryMs;
    #silence = new Alarm((late) => (late ? this.#silence.set(AWAKE_MS) : this.#end()));
    constructor(address, headers, wanted, places, aside, listener) {
        this.wanted = new Map(wanted.map((one) => [one.pattern, one]));
        this.behind = new Set(wanted);
        this.places = places;
        this.aside = aside;
        this.#listener = listener;
        this.#silence.set(SILENCE_MS);
        const read = this.#read(address, headers);
        void read.catch(() => undefined).then((why) => this.#end(why));
    }
    close() {
        this.#listener = undefined;
        this.#silence.clear();
        this.#stop.abort();
    }
    /** To its end, or gives why it did not begin. */
    async #read(address, headers) {
        const response = await fetch(address, {
            headers: { ...headers, accept: "text/event-stream" },
            signal: this.#stop.signal,
        });
        if (!response.ok)
            return problem(response);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        const parser = createParser({
            onRetry: (ms) => (this.#retryMs = ms),
            onComment: () => this.#listener?.heard(this, { type: "ping" }),
            onEvent: ({ event, data }) => this.#take(event, data),
        });
        for (let next = await reader.read(); !next.done; next = await reader.read()) {
            this.#silence.set(SILENCE_MS);
            parser.feed(next.value);
        }
        return undefined;
    }
    #take(event, data) {
        if (event === "close") {
            const { code, retry, ms = this.#retryMs } = JSON.parse(data);
            return this.#end({ code, message: "", retryable: retry, retry_after_ms: ms });
        }
        const frame = decode(data);
        if (frame)
            this.#listener?.heard(this, frame);
    }
    #end(why = lost(this.#retryMs)) {
        const listener = this.#listener;
        this.close();
        listener?.ended(this, why);
    }
}
