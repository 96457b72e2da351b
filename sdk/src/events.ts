// Listeners to named events.

/** Calls `listener` at each event of that name, until it is stopped by the returned function or `signal`. */
export type Listen<E> = <K extends keyof E & string>(
  event: K,
  listener: (about: E[K]) => void,
  options?: { signal?: AbortSignal; once?: boolean },
) => () => void;

export class Events<E> {
  readonly #listeners = new Map<keyof E, Set<(about: never) => void>>();

  /** To be handed out as it is. */
  readonly on: Listen<E> = (event, listener, options = {}) => {
    if (options.signal?.aborted) return () => {};
    const called = (about: E[typeof event]): void => {
      if (options.once) stop();
      listener(about);
    };
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(called));
    const stop = (): void => {
      listeners.delete(called);
      options.signal?.removeEventListener("abort", stop);
    };
    options.signal?.addEventListener("abort", stop);
    return stop;
  };

  emit<K extends keyof E>(event: K, about: E[K]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) call(listener as (about: E[K]) => void, about);
  }

  has(event: keyof E): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0;
  }
}

/** Calls code of the application. What it throws is told as any uncaught error, and stops nothing here. */
export function call<A>(code: (about: A) => void, about: A): void {
  try {
    code(about);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
