import type { Command, HistoryFrame, PublishedFrame } from "./codec.ts";
type Unnumbered<C> = C extends {
    id: number;
} ? Omit<C, "id"> : never;
export type AskCommand = Unnumbered<Extract<Command, {
    type: "publish" | "history";
}>>;
export type Answer = PublishedFrame | HistoryFrame;
export declare class Ask {
    #private;
    readonly command: AskCommand;
    readonly answer: Promise<Answer>;
    /** Whether it is on no Link just now. */
    waits: boolean;
    /** `named`: who asks has a Token. The keys of others count on one connection only. */
    constructor(command: AskCommand, signal: AbortSignal | undefined, named: boolean);
    /** It is on its way. */
    sent(): void;
    /** Its Link has ended without an answer: it waits for another, or this was it. */
    unanswered(): void;
    answered(answer: Answer): void;
    fail(error: unknown): void;
}
export {};
