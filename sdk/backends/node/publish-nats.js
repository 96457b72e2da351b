// Publishes over NATS, with @nats-io/transport-node.
import { randomBytes } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const random = (bytes) => randomBytes(bytes).toString("hex");

const client = await connect({ servers: process.env.NATS_URL });
const about = headers();
about.set("Nats-Msg-Id", "order-17-shipped");
about.set("traceparent", `00-${random(16)}-${random(8)}-01`); // or that of what you are doing
client.publish("tidegate.in.orders.17", JSON.stringify({ id: 17, state: "shipped" }), { headers: about });
await client.drain(); // NATS has it
