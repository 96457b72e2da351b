// A Feed: the client's one wire Subscription for a Pattern, shared by all Subscriptions of the application with
// that Pattern.
//
// It lives on one Link after the other, and while the client moves, on two at once; so it hears some Publications
// twice. Who comes later, and wants to begin elsewhere, is its guest for a while: the Feed begins anew at the guest's
// place and serves nobody else, until the guest has all that there is; then it goes back to its own place, and who
// has had what comes from there drops it.
//
// LAW: it never goes on behind a hole that nobody was told of.
import { Alarm } from "./alarm.js";
import { EPOCH_CHANGED, isAfter, Place } from "./cursor.js";
import { matcher } from "./pattern.js";
/** Ids that are remembered where nothing is kept, to know what comes twice. */
const IDS_MAX = 512;
/** At most this long before asking again for what was refused for now, if the gateway names no time. */
const ASK_AGAIN_MS = 4_000;
export class Feed {
    pattern;
    matches;
    /** False while it waits to be asked for again. */
    wanted = true;
    #owner;
    #from;
    #place = new Place();
    #asked = false;
    #begun = false;
    /** Whether its Namespace keeps history. */
    #kept = false;
    #joined = new Set();
    #waiting = new Set();
    /** Some of those who wait, if it serves them now. */
    #guests = [];
    /** How far the last guests have come: every answer where history is kept says it. */
    #served = "";
    /** The Links on which it is live. */
    #live = new Set();
    #ids = new Set();
    #again = new Alarm(() => {
        this.wanted = true;
        this.#owner.changed();
    });
    constructor(pattern, from, owner) {
        this.pattern = pattern;
        this.matches = matcher(pattern);
        this.#from = from;
        this.#owner = owner;
    }
    get isLive() {
        return this.#live.size > 0;
    }
    get empty() {
        return this.#joined.size + this.#waiting.size === 0;
    }
    add(receiver) {
        if (!this.#asked && this.#from === "live")
            this.#from = receiver.from;
        const together = !this.#begun && receiver.from !== "live" && same(receiver.from, this.#from);
        (together ? this.#joined : this.#waiting).add(receiver);
        if (this.isLive)
            this.#admit();
    }
    remove(receiver) {
        this.#joined.delete(receiver);
        this.#waiting.delete(receiver);
        const others = this.#guests.filter((guest) => guest !== receiver);
        if (this.#hosting && others.length === 0)
            this.#serve(others);
        this.#guests = others;
    }
    /** Where it begins on the next Link. */
    start() {
        this.#asked = true;
        const [guest] = this.#guests;
        if (guest)
            return guest.from;
        if (this.#place.cursor)
            return { cursor: this.#place.cursor };
        return this.#begun && !this.#kept ? "live" : this.#from;
    }
    // What its Sessions tell.
    subscribed({ recovered, reason, cursor, replayed, more }) {
        const resumed = this.#begun && !this.#hosting;
        this.#begun = true;
        this.#kept = cursor !== undefined;
        if (!recovered)
            this.gap({ reason: reason ?? "history_trimmed", resumed });
        if (this.isLive)
            return;
        if (recovered && resumed && !this.#kept)
            this.gap({ reason: "connection_lost", resumed });
        if (more || replayed > 0)
            this.#each((receiver) => receiver.lost());
    }
    take(publication, session) {
        const { cursor, id } = publication;
        if (cursor === undefined ? this.#isNew(id) : this.#reach(cursor, session))
            this.#each((receiver) => receiver.take(publication));
    }
    position(cursor, session) {
        if (this.#reach(cursor, session))
            this.#each((receiver) => receiver.position(cursor));
    }
    gap(gap) {
        if (gap.reason === EPOCH_CHANGED && !this.#hosting)
            this.#place.outdated = true;
        this.#each((receiver) => receiver.gap(gap));
    }
    live(session) {
        if (this.#hosting) {
            const cursor = this.#served;
            const others = this.#place.cursor;
            for (const guest of this.#guests) {
                // Its node may be behind the one where the others were: then it is served again, once this one has their place.
                if (cursor !== others && !isAfter(cursor, others))
                    guest.from = { cursor };
                else if (this.#waiting.delete(guest))
                    this.#joined.add(guest);
            }
            return this.#serve([]);
        }
        const already = this.isLive;
        this.#live.add(session);
        if (already)
            return;
        this.#each((receiver) => receiver.live());
        this.#admit();
    }
    lost(session) {
        if (this.#live.delete(session) && !this.isLive)
            this.#each((receiver) => receiver.lost());
    }
    /** Not now, or not at all. */
    refused(error) {
        if (!error.retryable && error.code !== "already_subscribed")
            return this.#hosting ? this.#each((receiver) => receiver.end(error)) : this.end(error);
        this.wanted = false;
        this.#again.set(error.retryAfterMs ?? ASK_AGAIN_MS * Math.random());
        this.#each((receiver) => receiver.error(error));
    }
    end(error) {
        this.#again.clear();
        for (const receiver of [...this.#joined, ...this.#waiting])
            receiver.end(error);
    }
    get #hosting() {
        return this.#guests.length > 0;
    }
    /** Lets in who waits; who wants to begin elsewhere becomes a guest. */
    #admit() {
        for (const receiver of [...this.#waiting])
            if (receiver.from === "live" || !this.#kept)
                this.#letIn(receiver);
        const [first] = this.#waiting;
        if (first)
            this.#serve([...this.#waiting].filter(({ from }) => same(from, first.from)));
    }
    #letIn(receiver) {
        this.#waiting.delete(receiver);
        this.#joined.add(receiver);
        const { cursor, outdated } = this.#place;
        if (cursor && !outdated)
            receiver.position(cursor);
        if (receiver.from !== "live")
            receiver.gap({ reason: "history_trimmed", resumed: false });
        receiver.live();
    }
    #serve(guests) {
        this.#owner.forget(this); // Everybody hears that it is not live; then it is the guests' alone.
        this.#guests = guests;
    }
    /** Whether what stands there is for those whom it serves. */
    #reach(cursor, session) {
        if (this.#hosting) {
            this.#served = cursor;
            return true;
        }
        if (this.#place.denies(cursor)) {
            this.gap({ reason: EPOCH_CHANGED, resumed: !this.isLive });
            if (this.#hosting)
                return false; // Who was told begins anew, and is served first.
        }
        const { outdated } = this.#place;
        this.#place.advance(cursor);
        // What another Link has still to bring may be of the history before: there it begins anew, from here.
        if (outdated)
            this.#owner.forget(this, session);
        return true;
    }
    #each(tell) {
        for (const receiver of this.#hosting ? this.#guests : [...this.#joined])
            tell(receiver);
    }
    #isNew(id) {
        if (this.#ids.has(id))
            return false;
        const [oldest] = this.#ids;
        if (this.#ids.size >= IDS_MAX)
            this.#ids.delete(oldest);
        this.#ids.add(id);
        return true;
    }
}
function same(from, other) {
    return JSON.stringify(from) === JSON.stringify(other);
}
