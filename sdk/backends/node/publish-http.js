// Publishes over HTTP. Until the answer is a 2xx, do it again with the same key.
const { TIDEGATE_URL, TIDEGATE_KEY } = process.env;

const answer = await fetch(`${TIDEGATE_URL}/v1/topics/orders.17/messages`, {
  method: "POST",
  headers: { Authorization: `Bearer ${TIDEGATE_KEY}`, "Idempotency-Key": "order-17-paid" },
  body: JSON.stringify({ id: 17, state: "paid" }),
  signal: AbortSignal.timeout(20_000),
});
if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
