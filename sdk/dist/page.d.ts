export interface PageListener {
    /** There is a network again; or perhaps: browsers guess. */
    online(): void;
    offline(): void;
    hidden(): void;
    /** The page is left. It may be kept, frozen, and come back. */
    left(): void;
    /** It is visible again, back as it was, or thawed. */
    awake(): void;
}
/** Returns the way to stop listening. */
export declare function watchPage(page: PageListener): () => void;
