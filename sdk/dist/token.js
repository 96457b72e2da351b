// The Token: where it comes from, and when it is time for another one.
import { Alarm } from "./alarm.js";
import { onAbort } from "./events.js";
/** How long a provider may take. */
const PROVIDER_MS = 30_000;
/** Renewed when 80 % of its life are over, give or take 5 %. */
const RENEW_AT = 0.75;
const RENEW_SPREAD = 0.1;
/** Between two renewals, however wrong the clock of this machine is. */
const RENEW_MIN_MS = 10_000;
export class Tokens {
    #source;
    #renewal;
    #stop = new AbortController();
    #known;
    /** When the one that is known came. */
    #since = 0;
    #call;
    #attempt = 0;
    /** `expiring` is called when it is time for another one. */
    constructor(source, expiring) {
        this.#source = source;
        this.#renewal = new Alarm(() => {
            if (typeof source === "function")
                this.#known = undefined;
            expiring();
        });
        if (typeof source === "string")
            this.#known = source;
    }
    /** Whether there is any hope for another one than the present. */
    get renewable() {
        return typeof this.#source === "function";
    }
    /** The present one while it is good, else another; undefined for anonymous clients. */
    async get(reason) {
        const provider = this.#source;
        if (typeof provider !== "function")
            return this.#known;
        this.#renewal.check();
        if (reason === "connect" && this.#known !== undefined)
            return this.#known;
        this.#call ??= this.#ask(provider, reason).finally(() => (this.#call = undefined));
        return this.#call;
    }
    /** It was taken, and will end then: sets the time of its renewal. */
    accepted(end) {
        if (!this.renewable || !end)
            return;
        const part = RENEW_AT + RENEW_SPREAD * Math.random();
        const renewAt = this.#since + part * (end.getTime() - this.#since);
        this.#renewal.set(Math.max(renewAt - Date.now(), RENEW_MIN_MS));
    }
    /** It could not be renewed: asks for another one after a while. */
    askAgain() {
        this.#renewal.set(RENEW_MIN_MS);
    }
    close() {
        this.#renewal.clear();
        this.#stop.abort();
    }
    async #ask(provider, reason) {
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PROVIDER_MS)]);
        const answer = provider({ reason, attempt: ++this.#attempt, signal });
        const late = new Promise((_, reject) => onAbort(signal, () => reject(signal.reason)));
        this.#known = await Promise.race([answer, late]);
        this.#attempt = 0;
        this.#since = Date.now();
        return this.#known;
    }
}
