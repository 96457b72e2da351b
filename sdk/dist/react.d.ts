import type { ReactNode } from "react";
import type { Client, ClientState, Connection } from "./client.ts";
import type { From } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import type { SubscribeOptions } from "./subscription.ts";
/** Gives the client to all components below. Whoever made the client closes it. */
export declare function TidegateProvider<T extends object>({ client, children }: {
    client: Client<T>;
    children?: ReactNode;
}): ReactNode;
/** The client of the `TidegateProvider` above. */
export declare function useClient<T extends object = Record<string, unknown>>(): Client<T>;
/** How the client is connected. */
export interface ConnectionStatus {
    readonly state: ClientState;
    /** While there is one. */
    readonly connection?: Connection | undefined;
    /** While it is waited for. */
    readonly retryAt?: Date | undefined;
}
/** Renders again when the state changes. It does not connect. */
export declare function useConnection(): ConnectionStatus;
/** What `useLive` shows. */
export interface Live<M> {
    /** By Topic. The same object until something changes. */
    readonly values: ReadonlyMap<string, M>;
    /** Whether they may be old, or are still to come. */
    readonly stale: boolean;
}
/** The newest value of each Topic that a Pattern matches, kept up to date. */
export declare function useLive<M = unknown>(pattern: string): Live<M>;
/** The newest value of one Topic; undefined while there is none. */
export declare function useLatest<M = unknown>(topic: string): M | undefined;
/**
 * Calls `receive` with each Publication, while the component is there. It is always the `receive` of the last render;
 * of the options counts what they are when the Pattern is first seen.
 */
export declare function useSubscription<M = unknown>(pattern: string, receive: (publication: Publication<M>) => void, options?: SubscribeOptions<M, From>): void;
