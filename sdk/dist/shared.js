// `tidegate/shared`: one connection for all tabs, held by a SharedWorker.
//
// A tab is a whole client, whose Link happens to end in a worker. What is shared is decided there; here it is only
// whether there is such a worker at all. A tab holds a Web Lock as long as its Link lives: nothing else tells the
// worker of a tab that died.
import { Alarm } from "./alarm.js";
import { CLIENT } from "./codec.js";
import { webSocket } from "./transport.js";
/** For the worker's first word. */
const HELLO_MS = 5_000;
/**
 * One WebSocket for all tabs whose Tokens have the same `sub` and `permissions`. Where there is no such worker, it is
 * one for each tab, without a word.
 */
export function shared(options) {
    let works = typeof SharedWorker === "function" && "locks" in navigator;
    const own = webSocket();
    return {
        name: "shared",
        usable: own.usable,
        open: (url, listener) => {
            const link = new SharedLink(url, listener, () => {
                works = false;
                return own.open(url, listener);
            });
            if (works)
                link.begin(options);
            else
                link.giveUp();
            return link;
        },
    };
}
class SharedLink {
    #url;
    #listener;
    #own;
    /** Commands for which it is not yet clear who takes them. */
    #held = [];
    #instead;
    #port;
    #silent = new Alarm(() => this.giveUp());
    #release = () => { };
    constructor(url, listener, own) {
        this.#url = url;
        this.#listener = listener;
        this.#own = own;
    }
    begin({ worker, name = "" }) {
        try {
            const shared = new SharedWorker(worker, { type: "module", name: `${CLIENT} ${name}` });
            shared.onerror = () => this.giveUp();
            this.#port = shared.port;
            shared.port.onmessage = ({ data }) => this.#hear(data);
            this.#silent.set(HELLO_MS);
        }
        catch {
            this.giveUp();
        }
    }
    /** A socket of its own, if no worker has said a word. */
    giveUp() {
        if (!this.#held || !this.#listener)
            return;
        this.#stop();
        this.#instead = this.#own();
        for (const command of this.#held)
            this.#instead.send(command);
        this.#held = undefined;
    }
    send(command) {
        if (this.#held)
            this.#held.push(command);
        else if (this.#instead)
            this.#instead.send(command);
        else
            this.#port?.postMessage(command);
    }
    close() {
        this.#listener = undefined;
        this.#instead?.close();
        this.#stop();
    }
    #hear(data) {
        if (typeof data === "string")
            return data === CLIENT ? this.#enter() : this.giveUp();
        if (Array.isArray(data))
            return data.forEach((frame) => this.#listener?.frame(frame));
        const listener = this.#listener;
        this.close();
        listener?.ended(data);
    }
    /** The worker is there: it is told all, once the lock is held. */
    #enter() {
        this.#silent.clear();
        const lock = `${CLIENT} ${crypto.randomUUID()}`;
        const opening = { lock, url: this.#url.href };
        const held = () => {
            if (!this.#listener)
                return undefined;
            for (const word of [opening, ...(this.#held ?? [])])
                this.#port?.postMessage(word);
            this.#held = undefined;
            return new Promise((resolve) => (this.#release = resolve));
        };
        navigator.locks.request(lock, held).catch(() => this.giveUp());
    }
    #stop() {
        this.#silent.clear();
        this.#release();
        this.#port?.close();
    }
}
