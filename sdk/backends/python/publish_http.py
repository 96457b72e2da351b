"""Publishes over HTTP. Until the answer is a 2xx, do it again with the same key."""

import json
import os
from urllib.request import Request, urlopen

request = Request(
    os.environ["TIDEGATE_URL"] + "/v1/topics/orders.17/messages",
    data=json.dumps({"id": 17, "state": "paid"}).encode(),
    headers={"Authorization": "Bearer " + os.environ["TIDEGATE_KEY"], "Idempotency-Key": "order-17-paid"},
)
with urlopen(request, timeout=20) as answer:  # raises if it is no 2xx
    print(answer.read().decode())
