// A Topic: a Pattern without wildcards, which can also be published to and read back.
import { patternOf } from "./pattern.js";
import { payload, publication } from "./publication.js";
export function topicOf(client, name) {
    const publish = async (payload, { key, signal } = {}) => {
        const answer = await client.ask({ type: "publish", topic: name, key, ...payload }, signal);
        const { message_id: id, cursor, duplicate } = answer;
        return { id, cursor: cursor, duplicate };
    };
    return {
        ...patternOf(client, name),
        publish: async (data, options) => publish(payload(data), options),
        delete: (options) => publish({ deleted: true }, options),
        async history({ from, limit, signal } = {}) {
            const answer = await client.ask({ type: "history", topic: name, from: from && { cursor: from }, limit }, signal);
            const { items, next } = answer;
            return {
                items: items.map((item) => publication(item, true)),
                next: next,
            };
        },
    };
}
