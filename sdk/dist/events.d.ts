/** Calls `listener` at each event of that name, until it is stopped by the returned function or `signal`. */
export type Listen<E> = <K extends keyof E & string>(event: K, listener: (about: E[K]) => void, options?: {
    signal?: AbortSignal;
    once?: boolean;
}) => () => void;
export declare class Events<E> {
    #private;
    /** To be handed out as it is. */
    readonly on: Listen<E>;
    emit<K extends keyof E & string>(event: K, about: E[K]): void;
}
/** Calls `stop` when it aborts, or now if it has. Returns the way to call that off. */
export declare function onAbort(signal: AbortSignal | undefined, stop: () => void): () => void;
