"""As much of S3 as reading needs, over real HTTP."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass
class Gate:
    """Before an object's content: readers stop there until it is opened, and are counted."""

    key: str
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    passed: int = 0


class _S3(BaseHTTPRequestHandler):
    """As much of S3 as reading needs: HEAD, ranged GET, and listing (ListObjectsV2)."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[Mapping[str, bytes]] = {}
    denied: ClassVar[str] = ""
    gate: ClassVar[Gate] = Gate("")
    sizes: ClassVar[Mapping[str, int]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.strip("/").partition("/")
        if bucket == "bucket" and not key:
            self.answer(200, self.listing(parse_qs(parts.query)))
        elif key == self.denied:
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif bucket == "bucket" and key in self.objects:
            content = self.objects[key]
            self.pass_gate(key)
            first, _, last = self.headers.get("Range", f"bytes=0-{len(content) - 1}")[6:].partition("-")
            part = content[int(first) : int(last) + 1]
            told = self.sizes.get(key, len(part)) if self.command == "HEAD" else len(part)
            self.answer(206 if "Range" in self.headers else 200, part, told=told)
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def pass_gate(self, key: str) -> None:
        if key == self.gate.key and self.command == "GET":
            self.gate.passed += 1
            self.gate.reached.set()
            self.gate.opened.wait(60)

    def listing(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        found = [key for key in self.objects if key.startswith(prefix)]
        folders = {prefix + key[len(prefix) :].split("/")[0] + "/" for key in found if "/" in key[len(prefix) :]}
        if delimiter:
            found = [key for key in found if "/" not in key[len(prefix) :]]
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{self.sizes.get(key, len(self.objects[key]))}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in found
        )
        if delimiter:
            entries += "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
        count = len(found) + (len(folders) if delimiter else 0)
        return (
            f"<ListBucketResult><Name>bucket</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        ).encode()

    def answer(self, status: int, body: bytes, *, told: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if told is None else told))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # a reader that was killed
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def bucket(
    objects: Mapping[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    *,
    denied: str = "",
    gate: Gate | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Iterator[None]:
    """While the block runs, `s3://bucket` holds these objects, and the usual variables lead there.

    The `denied` one is listed, but may not be read. `sizes` are what is said of objects that are smaller.
    """
    told = {"objects": objects, "denied": denied, "gate": gate or Gate(""), "sizes": sizes or {}}
    handler = type("S3", (_S3,), told)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
