// Named events, carried by the platform's own: it knows `signal` and `once`, and reports what a listener throws.

/** Calls `listener` at each event of that name, until it is stopped by the returned function or `signal`. */
export type Listen<E> = <K extends keyof E & string>(
  event: K,
  listener: (about: E[K]) => void,
  options?: { signal?: AbortSignal; once?: boolean },
) => () => void;

export class Events<E> {
  readonly #target = new EventTarget();

  /** To be handed out as it is. */
  readonly on: Listen<E> = (event, listener, options) => {
    const heard = (happened: Event): void => listener((happened as CustomEvent).detail);
    this.#target.addEventListener(event, heard, options);
    return () => this.#target.removeEventListener(event, heard);
  };

  emit<K extends keyof E & string>(event: K, about: E[K]): void {
    this.#target.dispatchEvent(new CustomEvent(event, { detail: about }));
  }
}

/** Calls `stop` when it aborts, or now if it has. Returns the way to call that off. */
export function onAbort(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  return () => signal?.removeEventListener("abort", stop);
}
