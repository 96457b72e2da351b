// What waits for a `for await` loop: bounded, with one answer to being full.
const DEFAULT = { max: 1_000, onFull: "drop-oldest" };
export class Queue {
    onFull;
    #max;
    #items = [];
    #end;
    #wake = () => { };
    constructor({ max, onFull } = DEFAULT) {
        this.#max = max;
        this.onFull = onFull;
    }
    get size() {
        return this.#items.length;
    }
    get full() {
        return this.size >= this.#max;
    }
    /** Says how many gave way. */
    push(item) {
        const before = this.size;
        if (this.full && this.onFull === "latest") {
            this.#items = this.#items.filter(({ topic }) => topic !== item.topic);
        }
        if (this.full)
            this.#items.shift();
        this.#items.push(item);
        this.#wake();
        return before + 1 - this.size;
    }
    /** What waits can still be read; then the loop ends, or throws that error. */
    end(error) {
        this.#end ??= { error };
        this.#wake();
    }
    async *[Symbol.asyncIterator]() {
        for (;;) {
            const item = this.#items.shift();
            if (item)
                yield item;
            else if (!this.#end)
                await new Promise((resolve) => (this.#wake = resolve));
            else if (this.#end.error === undefined)
                return;
            else
                throw this.#end.error;
        }
    }
}
