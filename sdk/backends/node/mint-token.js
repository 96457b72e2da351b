// Mints the token of a browser: who it is, until when, and what it may do.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const part = (content) => Buffer.from(JSON.stringify(content)).toString("base64url");

const secret = readFileSync(process.env.TIDEGATE_SECRET_FILE);
const exp = Math.floor(Date.now() / 1_000) + 3_600;
const claims = { sub: "ana", exp, permissions: { subscribe: ["orders.>"] } };
const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
console.log(`${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`);
