// An Ask: one Command of the application's that waits for its Reply, if need be over the end of a Link.
import { Alarm } from "./alarm.js";
import { TidegateError } from "./error.js";
import { onAbort } from "./events.js";
/** From the call to the answer, connecting included. */
const ANSWER_MS = 30_000;
export class Ask {
    command;
    /** Whether it may be sent once more, as nothing comes of it twice. */
    #repeatable;
    answer;
    #outcome = Promise.withResolvers();
    /** Whether it is on no Link just now. */
    waits = true;
    #sent = 0;
    #late = new Alarm(() => this.fail(this.#lost()));
    /** `named`: who asks has a Token. The keys of others count on one connection only. */
    constructor(command, signal, named) {
        this.command = command;
        this.#repeatable = command.type === "history" || (named && command.key !== undefined);
        const stop = onAbort(signal, () => this.fail(signal?.reason));
        this.#late.set(ANSWER_MS);
        this.answer = this.#outcome.promise.finally(() => {
            this.#late.clear();
            stop();
        });
    }
    /** It is on its way. */
    sent() {
        this.#sent += 1;
        this.waits = false;
    }
    /** Its Link has ended without an answer: it waits for another, or this was it. */
    unanswered() {
        this.waits = this.#repeatable && this.#sent < 2;
        if (!this.waits)
            this.fail(this.#lost());
    }
    answered(answer) {
        this.#outcome.resolve(answer);
    }
    fail(error) {
        this.#outcome.reject(error);
    }
    #lost() {
        const unknown = this.#sent > 0 && this.command.type === "publish";
        return new TidegateError(unknown ? "outcome_unknown" : "connection_lost", "no answer", {
            retryable: this.#repeatable || !unknown,
        });
    }
}
