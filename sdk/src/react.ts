// `tidegate/react`: what a component sees of a client. React is the application's own, 18 or newer.
//
// Hooks read by `useSyncExternalStore`, so a render never shows two states of one thing. On a server nothing is
// connected: everything is `idle`, or empty, and stays so until the page has taken over.

import { createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import type { Client, ClientState, Connection } from "./client.ts";
import type { LiveMap } from "./live.ts";
import type { From } from "./pattern.ts";
import type { Publication } from "./publication.ts";
import type { SubscribeOptions } from "./subscription.ts";

const Context = createContext<Client | undefined>(undefined);

/** Gives the client to all components below. Whoever made the client closes it. */
export function TidegateProvider<T extends object>({ client, children }: { client: Client<T>; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client as unknown as Client }, children);
}

/** The client of the `TidegateProvider` above. */
export function useClient<T extends object = Record<string, unknown>>(): Client<T> {
  const client = useContext(Context);
  if (!client) throw new Error("there is no TidegateProvider above");
  return client as unknown as Client<T>;
}

/** How the client is connected. */
export interface ConnectionStatus {
  readonly state: ClientState;
  /** While there is one. */
  readonly connection?: Connection | undefined;
  /** While it is waited for. */
  readonly retryAt?: Date | undefined;
}

const IDLE: ConnectionStatus = { state: "idle" };

/** Renders again when the state changes. It does not connect. */
export function useConnection(): ConnectionStatus {
  const client = useClient();
  const status = useMemo(() => {
    let last = IDLE;
    return (): ConnectionStatus => {
      const { state, connection, retryAt } = client;
      const same = state === last.state && connection === last.connection && retryAt?.getTime() === last.retryAt?.getTime();
      return same ? last : (last = { state, connection, retryAt });
    };
  }, [client]);
  const listen = useMemo(() => (changed: () => void) => client.on("state", changed), [client]);
  return useSyncExternalStore(listen, status, () => IDLE);
}

/** What `useLive` shows. */
export interface Live<M> {
  /** By Topic. The same object until something changes. */
  readonly values: ReadonlyMap<string, M>;
  /** Whether they may be old, or are still to come. */
  readonly stale: boolean;
}

const NOTHING: Live<unknown> = { values: new Map(), stale: true };

/** The newest value of each Topic that a Pattern matches, kept up to date. */
export function useLive<M = unknown>(pattern: string): Live<M> {
  const { listen, live } = useStore<M>(pattern);
  return useSyncExternalStore(listen, live, () => NOTHING as Live<M>);
}

/** The newest value of one Topic; undefined while there is none. */
export function useLatest<M = unknown>(topic: string): M | undefined {
  const { listen, live } = useStore<M>(topic);
  return useSyncExternalStore(
    listen,
    () => live().values.get(topic),
    () => undefined,
  );
}

/**
 * Calls `receive` with each Publication, while the component is there. It is always the `receive` of the last render;
 * of the options counts what they are when the Pattern is first seen.
 */
export function useSubscription<M = unknown>(
  pattern: string,
  receive: (publication: Publication<M>) => void,
  options?: SubscribeOptions<M, From>,
): void {
  const client = useClient();
  const last = useRef(receive);
  useInsertionEffect(() => {
    last.current = receive;
  });
  useEffect(() => {
    const subscription = client.pattern<M>(pattern).subscribe((publication) => last.current(publication), options);
    return () => void subscription.unsubscribe();
    // Options are mostly written in place, so they differ each time.
  }, [client, pattern]);
}

/** A live map for as long as somebody listens. */
interface Store<M> {
  listen(changed: () => void): () => void;
  /** The same until it changes. */
  live(): Live<M>;
}

/** Those that are in use: whoever joins sees at once what the others see. */
const stores = new WeakMap<Client, Map<string, Store<unknown>>>();

function useStore<M>(pattern: string): Store<M> {
  const client = useClient();
  return useMemo(() => (stores.get(client)?.get(pattern) ?? newStore(client, pattern)) as Store<M>, [client, pattern]);
}

function newStore(client: Client, pattern: string): Store<unknown> {
  let map: LiveMap<unknown> | undefined;
  let listeners = 0;
  let last: Live<unknown> = NOTHING;
  const used = stores.get(client) ?? new Map<string, Store<unknown>>();
  stores.set(client, used);
  const store: Store<unknown> = {
    listen: (changed) => {
      const live = (map ??= client.pattern(pattern).live());
      listeners += 1;
      used.set(pattern, store);
      const stop = live.subscribe(changed);
      return () => {
        stop();
        listeners -= 1;
        if (listeners > 0) return;
        void live[Symbol.asyncDispose]();
        map = undefined;
        if (used.get(pattern) === store) used.delete(pattern);
      };
    },
    live: () => {
      const { values, stale } = { values: map?.snapshot() ?? last.values, stale: map?.stale ?? true };
      if (values !== last.values || stale !== last.stale) last = { values, stale };
      return last;
    },
  };
  return store;
}
