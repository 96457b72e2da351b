// A Session: one Link's conversation. Which Reply is for whom, whose a Publication is, and whether anybody is
// there at all.
//
// It knows no other Session and does not come back: the client makes the next one. What it subscribes to follows
// from the Feeds that it is given.

import { Alarm } from "./alarm.ts";
import type { Ask } from "./ask.ts";
import { LOST, verdict } from "./close.ts";
import type { Close, Verdict } from "./close.ts";
import { CLIENT, TOPICS_PER_SUBSCRIBE } from "./codec.ts";
import type { ConnectedFrame, ErrorFrame, Frame, MessageFrame, SubscribedFrame } from "./codec.ts";
import { refusal, TidegateError } from "./error.ts";
import type { Feed } from "./feed.ts";
import { canonical } from "./pattern.ts";
import { publication } from "./publication.ts";
import type { Link, LinkListener, Transport } from "./transport.ts";

/** Until `connected`; a node waits as long. */
const CONNECT_MS = 10_000;
/** Beyond the node's own heartbeat. */
const SILENCE_MS = 10_000;
/** For the answer to a ping that is sent in doubt. */
const PROBE_MS = 3_000;
/** Nodes repeat the first 200 characters of a Pattern in an error. */
const ERROR_TOPIC_MAX = 200;

/** The client, as its Sessions see it. */
export interface SessionListener {
  connected(session: Session, frame: ConnectedFrame): void;
  /** What it subscribed to is live, all of it. */
  settled(session: Session): void;
  goingAway(session: Session, ms: number): void;
  bus(session: Session, connected: boolean): void;
  latency(ms: number): void;
  renewed(session: Session, expiresAt: string | undefined): void;
  notRenewed(error: TidegateError): void;
  /** An error that belongs to nothing else. */
  refused(error: TidegateError): void;
  /** Of its own accord. */
  ended(session: Session, end: Verdict): void;
}

/** One Feed's Subscription on this Link. */
interface Place {
  readonly feed: Feed;
  /** The `id` of its `subscribe`. */
  readonly asked: number;
  /** `over`: it was ended, perhaps by what it has just brought. */
  phase: "asked" | "replaying" | "live" | "over";
}

/** The part of a Replay that is on its way: the next messages are for `place`, or for nobody any more. */
interface Part {
  place: Place | undefined;
  left: number;
  readonly more: boolean;
  readonly cursor: string | undefined;
}

export class Session implements LinkListener {
  readonly transport: string;
  readonly #link: Link;
  readonly #listener: SessionListener;
  #connected = false;
  #ended = false;
  #id = 0;
  readonly #asks = new Map<number, Ask>();
  readonly #places = new Map<string, Place>();
  #part: Part | undefined;
  #pinged: { id: number; at: number } | undefined;
  /** The `id` of a Token that is on its way. */
  #renewing: number | undefined;
  #heardAt = Date.now();
  #probedAt: number | undefined;
  #patienceMs = CONNECT_MS;
  readonly #watch = new Alarm((late) => this.#look(late));

  /** Dials, and says all that there is to say at once. */
  constructor(
    transport: Transport,
    url: URL,
    token: string | undefined,
    feeds: Iterable<Feed>,
    listener: SessionListener,
  ) {
    this.transport = transport.name;
    this.#listener = listener;
    this.#link = transport.open(url, this);
    this.#watch.set(CONNECT_MS);
    this.#link.send({ type: "connect", id: ++this.#id, token, client: CLIENT, heartbeat: "message" });
    this.sync(feeds);
  }

  /** Makes what is subscribed to on this Link equal to `feeds`. */
  sync(feeds: Iterable<Feed>): void {
    const wanted = new Set(feeds);
    for (const { feed } of [...this.#places.values()]) if (!wanted.has(feed)) this.forget(feed);
    const missing = [...wanted].filter((feed) => !this.#places.has(feed.pattern));
    while (missing.length > 0) {
      const asked = ++this.#id;
      const topics = missing.splice(0, TOPICS_PER_SUBSCRIBE).map((feed) => {
        this.#places.set(feed.pattern, { feed, asked, phase: "asked" });
        return { topic: feed.pattern, from: feed.start() };
      });
      this.#link.send({ type: "subscribe", id: asked, topics });
    }
  }

  /** Ends a Feed's Subscription on this Link. */
  forget(feed: Feed): void {
    if (this.#places.get(feed.pattern)?.feed !== feed) return;
    this.#remove(feed.pattern);
    this.#link.send({ type: "unsubscribe", id: ++this.#id, topic: feed.pattern });
  }

  ask(ask: Ask): void {
    this.#asks.set(++this.#id, ask);
    ask.sent();
    this.#link.send({ ...ask.command, id: this.#id });
  }

  renew(token: string): void {
    this.#renewing = ++this.#id;
    this.#link.send({ type: "token", id: this.#renewing, token });
  }

  ping(): void {
    this.#pinged = { id: ++this.#id, at: Date.now() };
    this.#link.send({ type: "ping", id: this.#id });
  }

  /** Asks whether anybody is there, and ends it if nobody answers. */
  probe(): void {
    this.#probedAt = Date.now();
    this.ping();
    this.#watch.set(PROBE_MS);
  }

  /** From this side, without a word to the listener. */
  close(): void {
    this.#link.close();
    this.#stop();
  }

  // What the Link tells.

  frame(frame: Frame): void {
    if (this.#ended) return;
    this.#heardAt = Date.now();
    switch (frame.type) {
      case "message":
        return this.#message(frame);
      case "connected":
        return this.#welcome(frame);
      case "subscribed":
        return this.#subscribed(frame);
      case "replay":
        return this.#begin({
          place: this.#begun(frame.topic),
          left: frame.replayed,
          more: frame.more,
          cursor: undefined,
        });
      case "unsubscribed":
        if (frame.code !== undefined) this.#turnedOut(frame.topic, frame.code);
        return;
      case "gap":
        return this.#begun(frame.topic)?.feed.gap({ reason: frame.reason, missed: frame.missed, resumed: false });
      case "position":
        return this.#each(
          ({ pattern }) => `${pattern}.`.startsWith(`${frame.namespace}.`),
          (feed) => feed.position(frame.cursor, this),
        );
      case "published":
      case "history":
        return this.#asked(frame.id)?.answered(frame);
      case "error":
        return this.#error(frame);
      case "ping":
        return this.#link.send({ type: "pong" });
      case "pong":
        return this.#pong(frame.id);
      case "token":
        return this.#listener.renewed(this, frame.expires_at);
      case "bus":
        return this.#listener.bus(this, frame.connected);
      case "going_away":
        return this.#listener.goingAway(this, frame.reconnect_in_ms);
    }
  }

  ended(close: Close): void {
    if (this.#ended) return;
    this.#stop();
    this.#listener.ended(this, verdict(close));
  }

  #welcome(frame: ConnectedFrame): void {
    this.#connected = true;
    this.#patienceMs = frame.heartbeat_ms + SILENCE_MS;
    this.#watch.set(this.#patienceMs);
    this.#listener.connected(this, frame);
    this.ping();
    this.#settle();
  }

  // What comes between an `unsubscribe` and its Reply is still that of the Subscription before: a place that has only
  // been asked for takes part in nothing but its own `subscribed`.

  #begun(topic: string): Place | undefined {
    const place = this.#places.get(topic);
    return place?.phase === "asked" ? undefined : place;
  }

  #subscribed(frame: SubscribedFrame): void {
    let place = this.#places.get(frame.topic);
    if (place?.asked !== (frame.id ?? place?.asked)) place = undefined;
    place?.feed.subscribed(frame);
    this.#begin({ place, left: frame.replayed, more: frame.more, cursor: frame.cursor });
  }

  #begin(part: Part): void {
    if (part.place?.phase === "over") part.place = undefined;
    if (part.place) part.place.phase = "replaying";
    this.#part = part;
    if (part.left === 0) this.#finish(part);
  }

  #finish({ place, more, cursor }: Part): void {
    this.#part = undefined;
    if (cursor !== undefined) place?.feed.position(cursor, this);
    if (!place || more || place.phase === "over") return;
    place.phase = "live";
    place.feed.live(this);
    this.#settle();
  }

  #message(frame: MessageFrame): void {
    const part = this.#part;
    if (part) {
      if (part.place) part.place.feed.take(publication(frame, true), this);
      part.left -= 1;
      if (part.left === 0 && this.#part === part) this.#finish(part);
      return;
    }
    const live = publication(frame, false);
    this.#each(
      ({ matches }) => matches.test(frame.topic),
      (feed) => feed.take(live, this),
    );
  }

  /** Tells the Feeds that are live. */
  #each(whom: (feed: Feed) => boolean, tell: (feed: Feed) => void): void {
    for (const { feed, phase } of [...this.#places.values()]) if (phase === "live" && whom(feed)) tell(feed);
  }

  #error(frame: ErrorFrame): void {
    const error = refusal(frame);
    const id = frame.id ?? 0;
    const ask = this.#asked(id);
    if (ask) return ask.fail(error);
    if (id === this.#renewing) return this.#listener.notRenewed(error);
    const refused = [...this.#places.values()].filter(
      ({ feed, asked, phase }) =>
        asked === id &&
        phase === "asked" &&
        (frame.topic === undefined || canonical(frame.topic) === feed.pattern.slice(0, ERROR_TOPIC_MAX)),
    );
    for (const { feed } of refused) {
      // If it is there already, an `unsubscribe` was refused before, as of too many Commands: once more.
      if (error.code === "already_subscribed") this.forget(feed);
      else this.#remove(feed.pattern);
      feed.refused(error);
    }
    if (refused.length > 0) this.#settle();
    else if (error.code === "not_subscribed")
      return; // Of a Subscription that was given up before it began.
    else this.#listener.refused(error);
  }

  /** The Ask of that `id`, which is over. */
  #asked(id: number): Ask | undefined {
    const ask = this.#asks.get(id);
    this.#asks.delete(id);
    return ask;
  }

  #turnedOut(topic: string, code: string): void {
    const place = this.#begun(topic);
    if (!place) return;
    this.#remove(topic);
    place.feed.end(new TidegateError(code, `no longer allowed: ${topic}`));
  }

  #remove(pattern: string): void {
    const place = this.#places.get(pattern);
    this.#places.delete(pattern);
    if (this.#part?.place === place) this.#part!.place = undefined;
    if (!place) return;
    place.phase = "over";
    place.feed.lost(this);
  }

  #pong(id: number): void {
    const pinged = this.#pinged;
    if (pinged?.id !== id) return;
    this.#pinged = undefined;
    this.#listener.latency(Math.max(0, Date.now() - pinged.at));
  }

  #settle(): void {
    const live = [...this.#places.values()].every(({ phase }) => phase === "live");
    if (this.#connected && live) this.#listener.settled(this);
  }

  /** Judges the silence. Who has slept asks first: what came meanwhile may still wait to be read. */
  #look(late: boolean): void {
    const now = Date.now();
    const alive = this.#connected && this.#heardAt >= (this.#probedAt ?? now - this.#patienceMs + 1);
    this.#probedAt = undefined;
    if (alive) return this.#watch.set(this.#patienceMs + Math.min(0, this.#heardAt - now));
    if (late) return this.probe();
    this.#link.close();
    this.ended(LOST);
  }

  #stop(): void {
    this.#ended = true;
    this.#connected = false;
    this.#watch.clear();
    for (const { feed } of this.#places.values()) feed.lost(this);
    this.#places.clear();
    for (const ask of this.#asks.values()) ask.unanswered();
    this.#asks.clear();
  }
}
