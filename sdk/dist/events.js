// Named events, carried by the platform's own: it knows `signal` and `once`, and reports what a listener throws.
export class Events {
    #target = new EventTarget();
    /** To be handed out as it is. */
    on = (event, listener, options) => {
        const heard = (happened) => listener(happened.detail);
        this.#target.addEventListener(event, heard, options);
        return () => this.#target.removeEventListener(event, heard);
    };
    emit(event, about) {
        this.#target.dispatchEvent(new CustomEvent(event, { detail: about }));
    }
}
/** Calls `stop` when it aborts, or now if it has. Returns the way to call that off. */
export function onAbort(signal, stop) {
    if (signal?.aborted)
        stop();
    signal?.addEventListener("abort", stop);
    return () => signal?.removeEventListener("abort", stop);
}
