// `tidegate/react`: what a component sees of a client. React is the application's own, 18 or newer.
//
// Hooks read by `useSyncExternalStore`, so a render never shows two states of one thing. On a server nothing is
// connected: everything is `idle`, or empty, and stays so until the page has taken over.
import { createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";
const Context = createContext(undefined);
/** Gives the client to all components below. Whoever made the client closes it. */
export function TidegateProvider({ client, children }) {
    return createElement(Context.Provider, { value: client }, children);
}
/** The client of the `TidegateProvider` above. */
export function useClient() {
    const client = useContext(Context);
    if (!client)
        throw new Error("there is no TidegateProvider above");
    return client;
}
const IDLE = { state: "idle" };
/** Renders again when the state changes. It does not connect. */
export function useConnection() {
    const client = useClient();
    const status = useMemo(() => {
        let last = IDLE;
        return () => {
            const { state, connection, retryAt } = client;
            const same = state === last.state && connection === last.connection && retryAt?.getTime() === last.retryAt?.getTime();
            return same ? last : (last = { state, connection, retryAt });
        };
    }, [client]);
    const listen = useMemo(() => (changed) => client.on("state", changed), [client]);
    return useSyncExternalStore(listen, status, () => IDLE);
}
const NOTHING = { values: new Map(), stale: true };
/** The newest value of each Topic that a Pattern matches, kept up to date. */
export function useLive(pattern) {
    const { listen, live } = useStore(pattern);
    return useSyncExternalStore(listen, live, () => NOTHING);
}
/** The newest value of one Topic; undefined while there is none. */
export function useLatest(topic) {
    const { listen, live } = useStore(topic);
    return useSyncExternalStore(listen, () => live().values.get(topic), () => undefined);
}
/**
 * Calls `receive` with each Publication, while the component is there. It is always the `receive` of the last render;
 * of the options counts what they are when the Pattern is first seen.
 */
export function useSubscription(pattern, receive, options) {
    const client = useClient();
    const last = useRef(receive);
    useInsertionEffect(() => {
        last.current = receive;
    });
    useEffect(() => {
        const subscription = client.pattern(pattern).subscribe((publication) => last.current(publication), options);
        return () => void subscription.unsubscribe();
        // Options are mostly written in place, so they differ each time.
    }, [client, pattern]);
}
/** Those that are in use: whoever joins sees at once what the others see. */
const stores = new WeakMap();
function useStore(pattern) {
    const client = useClient();
    return useMemo(() => (stores.get(client)?.get(pattern) ?? newStore(client, pattern)), [client, pattern]);
}
function newStore(client, pattern) {
    let map;
    let listeners = 0;
    let last = NOTHING;
    const used = stores.get(client) ?? new Map();
    stores.set(client, used);
    const store = {
        listen: (changed) => {
            const live = (map ??= client.pattern(pattern).live());
            listeners += 1;
            used.set(pattern, store);
            const stop = live.subscribe(changed);
            return () => {
                stop();
                listeners -= 1;
                if (listeners > 0)
                    return;
                void live[Symbol.asyncDispose]();
                map = undefined;
                if (used.get(pattern) === store)
                    used.delete(pattern);
            };
        },
        live: () => {
            const { values, stale } = { values: map?.snapshot() ?? last.values, stale: map?.stale ?? true };
            if (values !== last.values || stale !== last.stale)
                last = { values, stale };
            return last;
        },
    };
    return store;
}
