// What happened, newest first: a line for each change of the connection.

const LINES_MAX = 40;

export interface Line {
  readonly key: number;
  readonly time: string;
  readonly text: string;
}

let key = 0;
let all: readonly Line[] = [];

export const lines = (): readonly Line[] => all;

export function note(text: string): void {
  key += 1;
  all = [{ key, time: new Date().toLocaleTimeString("en-GB"), text }, ...all].slice(0, LINES_MAX);
}
