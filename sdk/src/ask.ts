// An Ask: one Command of the application's that waits for its Reply, if need be over the end of a Link.

import { Alarm } from "./alarm.ts";
import type { Command, HistoryFrame, PublishedFrame } from "./codec.ts";
import { TidegateError } from "./error.ts";
import { onAbort } from "./events.ts";

/** From the call to the answer, connecting included. */
const ANSWER_MS = 30_000;

type Unnumbered<C> = C extends { id: number } ? Omit<C, "id"> : never;
export type AskCommand = Unnumbered<Extract<Command, { type: "publish" | "history" }>>;
export type Answer = PublishedFrame | HistoryFrame;

export class Ask {
  readonly command: AskCommand;
  /** Whether it may be sent once more, as nothing comes of it twice. */
  readonly #repeatable: boolean;
  readonly answer: Promise<Answer>;
  readonly #outcome = Promise.withResolvers<Answer>();
  /** Whether it is on no Link just now. */
  waits = true;
  #sent = 0;
  readonly #late = new Alarm(() => this.fail(this.#lost()));

  /** `named`: who asks has a Token. The keys of others count on one connection only. */
  constructor(command: AskCommand, signal: AbortSignal | undefined, named: boolean) {
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
  sent(): void {
    this.#sent += 1;
    this.waits = false;
  }

  /** Its Link has ended without an answer: it waits for another, or this was it. */
  unanswered(): void {
    this.waits = this.#repeatable && this.#sent < 2;
    if (!this.waits) this.fail(this.#lost());
  }

  answered(answer: Answer): void {
    this.#outcome.resolve(answer);
  }

  fail(error: unknown): void {
    this.#outcome.reject(error);
  }

  #lost(): TidegateError {
    const unknown = this.#sent > 0 && this.command.type === "publish";
    return new TidegateError(unknown ? "outcome_unknown" : "connection_lost", "no answer", {
      retryable: this.#repeatable || !unknown,
    });
  }
}
