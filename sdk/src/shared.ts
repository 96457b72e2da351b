// `tidegate/shared`: one connection for all tabs, held by a SharedWorker.
//
// A tab is a whole client, whose Link happens to end in a worker. What is shared is decided there; here it is only
// whether there is such a worker at all. A tab holds a Web Lock as long as its Link lives: nothing else tells the
// worker of a tab that died.

import { Alarm } from "./alarm.ts";
import type { Close } from "./close.ts";
import { CLIENT } from "./codec.ts";
import type { Command, Frame } from "./codec.ts";
import { webSocket } from "./transport.ts";
import type { Link, LinkListener, Transport } from "./transport.ts";

export interface SharedOptions {
  /**
   * The address of `tidegate.js`, of the same version as this. Browsers take workers from the page's own origin only:
   * with a gateway elsewhere, the application serves a copy.
   */
  worker: string | URL;
  /** Tabs of different names do not share. */
  name?: string;
}

/** A tab's first word. */
export interface Opening {
  readonly lock: string;
  readonly url: string;
}

/** For the worker's first word. */
const HELLO_MS = 5_000;

/**
 * One WebSocket for all tabs whose Tokens have the same `sub` and `permissions`. Where there is no such worker, it is
 * one for each tab, without a word.
 */
export function shared(options: SharedOptions): Transport {
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
      if (works) link.begin(options);
      else link.giveUp();
      return link;
    },
  };
}

class SharedLink implements Link {
  readonly #url: URL;
  #listener: LinkListener | undefined;
  readonly #own: () => Link;
  /** Commands for which it is not yet clear who takes them. */
  #held: Command[] | undefined = [];
  #instead: Link | undefined;
  #port: MessagePort | undefined;
  readonly #silent = new Alarm(() => this.giveUp());
  #release = (): void => {};

  constructor(url: URL, listener: LinkListener, own: () => Link) {
    this.#url = url;
    this.#listener = listener;
    this.#own = own;
  }

  begin({ worker, name = "" }: SharedOptions): void {
    try {
      const shared = new SharedWorker(worker, { type: "module", name: `${CLIENT} ${name}` });
      shared.onerror = () => this.giveUp();
      this.#port = shared.port;
      shared.port.onmessage = ({ data }) => this.#hear(data);
      this.#silent.set(HELLO_MS);
    } catch {
      this.giveUp();
    }
  }

  /** A socket of its own, if no worker has said a word. */
  giveUp(): void {
    if (!this.#held || !this.#listener) return;
    this.#stop();
    this.#instead = this.#own();
    for (const command of this.#held) this.#instead.send(command);
    this.#held = undefined;
  }

  send(command: Command): void {
    if (this.#held) this.#held.push(command);
    else if (this.#instead) this.#instead.send(command);
    else this.#port?.postMessage(command);
  }

  close(): void {
    this.#listener = undefined;
    this.#instead?.close();
    this.#stop();
  }

  #hear(data: string | Frame[] | Close): void {
    if (typeof data === "string") return data === CLIENT ? this.#enter() : this.giveUp();
    if (Array.isArray(data)) return data.forEach((frame) => this.#listener?.frame(frame));
    const listener = this.#listener;
    this.close();
    listener?.ended(data);
  }

  /** The worker is there: it is told all, once the lock is held. */
  #enter(): void {
    this.#silent.clear();
    const lock = `${CLIENT} ${crypto.randomUUID()}`;
    const opening: Opening = { lock, url: this.#url.href };
    const held = (): Promise<void> | undefined => {
      if (!this.#listener) return undefined;
      for (const word of [opening, ...(this.#held ?? [])]) this.#port?.postMessage(word);
      this.#held = undefined;
      return new Promise((resolve) => (this.#release = resolve));
    };
    navigator.locks.request(lock, held).catch(() => this.giveUp());
  }

  #stop(): void {
    this.#silent.clear();
    this.#release();
    this.#port?.close();
  }
}
