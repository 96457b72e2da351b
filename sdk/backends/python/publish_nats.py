"""Publishes over NATS, with nats-py."""

import asyncio
import json
import os
import secrets

import nats


async def main():
    client = await nats.connect(os.environ["NATS_URL"])
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"  # or that of what you are doing
    await client.publish(
        "tidegate.in.orders.17",
        json.dumps({"id": 17, "state": "shipped"}).encode(),
        headers={"Nats-Msg-Id": "order-17-shipped", "traceparent": traceparent},
    )
    await client.drain()  # NATS has it


asyncio.run(main())
