// One timer, judged by the wall clock: browsers ring late in hidden tabs, and not at all in frozen ones.
/** The longest wait that `setTimeout` can take. */
const LONGEST_MS = 2 ** 31 - 1;
/** No timer of a page that runs is as late as this. */
const LATE_MS = 2_000;
export class Alarm {
    #ring;
    #timer;
    #due;
    /** `late` says that the page, or the machine, has slept meanwhile. */
    constructor(ring) {
        this.#ring = ring;
    }
    /** When it rings, if it is set. */
    get due() {
        return this.#due === undefined ? undefined : new Date(this.#due);
    }
    /** Instead of what was set before. */
    set(ms) {
        this.clear();
        const wait = Math.min(ms, LONGEST_MS);
        this.#due = Date.now() + wait;
        this.#timer = setTimeout(() => this.#rings(), wait);
    }
    clear() {
        clearTimeout(this.#timer);
        this.#due = undefined;
    }
    /** Rings now if it should have before: for whoever learns that the page is awake again. */
    check() {
        if (this.#due !== undefined && Date.now() >= this.#due)
            this.#rings();
    }
    #rings() {
        const late = Date.now() - (this.#due ?? 0) > LATE_MS;
        this.clear();
        this.#ring(late);
    }
}
