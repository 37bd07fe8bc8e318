"""An emulator of AWS in this process, and a client of it that Windlass has no part in."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
KEYS = {"accessKeyId": "AKIATEST", "secretAccessKey": "secret"}


@cache
def _session() -> boto3.Session:
    return boto3.Session(region_name=REGION, aws_access_key_id="AKIACHECK", aws_secret_access_key="secret")


@dataclass(frozen=True)
class Emulator:
    """Where the emulator listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def config(self, **more: Any) -> dict[str, Any]:
        """The configuration of a connection to it."""
        return {"region": REGION, **KEYS, "endpointUrl": self.url, **more}

    def client(self, service: str) -> Any:
        """A client of somebody else, to see what is really there."""
        return _client(service, self.url)

    def reset(self) -> None:
        """Forgets everything that was made."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@cache
def _client(service: str, url: str) -> Any:
    return _session().client(service, endpoint_url=url, config=Config(s3={"addressing_style": "path"}))


@contextmanager
def running() -> Iterator[Emulator]:
    """The emulator on a port of its own of the loopback address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Emulator(host, port)
    finally:
        server.stop()
