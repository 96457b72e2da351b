export declare class Alarm {
    #private;
    /** `late` says that the page, or the machine, has slept meanwhile. */
    constructor(ring: (late: boolean) => void);
    /** When it rings, if it is set. */
    get due(): Date | undefined;
    /** Instead of what was set before. */
    set(ms: number): void;
    clear(): void;
    /** Rings now if it should have before: for whoever learns that the page is awake again. */
    check(): void;
}
