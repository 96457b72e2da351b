import type { ErrorFrame } from "./codec.ts";
export type Problem = Omit<ErrorFrame, "type" | "id" | "topic">;
/** Throws if it was not a gateway that answered. */
export declare function problem(response: Response): Promise<Problem>;
/** Of whom nothing more is heard. */
export declare function lost(ms?: number): Problem;
/** Whether a fresh Token would help, where the same one does not. */
export declare function wantsToken({ code }: Problem): boolean;
