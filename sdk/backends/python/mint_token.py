"""Mints the token of a browser: who it is, until when, and what it may do."""

import hmac
import json
import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path


def part(content):
    return urlsafe_b64encode(content).rstrip(b"=")


secret = Path(os.environ["TIDEGATE_SECRET_FILE"]).read_bytes()
claims = {"sub": "ana", "exp": int(time.time()) + 3600, "permissions": {"subscribe": ["orders.>"]}}
signed = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
print((signed + b"." + part(hmac.digest(secret, signed, "sha256"))).decode())
