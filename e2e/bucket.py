"""A bucket of a directory's files, which pods read over S3: as much of it as fetching a model needs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Bucket:
    """What it takes to read `s3://bucket`, and how often each object's beginning was read in a GET."""

    environment: dict[str, str]
    reads: Counter[str] = field(default_factory=Counter)


@contextmanager
def bucket(directory: Path, *, address: str) -> Iterator[Bucket]:
    """While the block runs, `s3://bucket` at that address of this machine holds the files below the directory."""
    reads: Counter[str] = Counter()
    server = ThreadingHTTPServer((address, 0), type("S3", (_S3,), {"directory": directory, "reads": reads}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        yield Bucket(environment, reads)
    finally:
        server.shutdown()
        server.server_close()


class _S3(BaseHTTPRequestHandler):
    """HEAD, ranged GET, and listing (ListObjectsV2)."""

    protocol_version = "HTTP/1.1"
    directory: ClassVar[Path]
    reads: ClassVar[Counter[str]]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name, _, key = unquote(parts.path).strip("/").partition("/")
        file = self.directory / key
        if name == "bucket" and not key:
            self._answer(200, self._listing(parse_qs(parts.query)))
        elif name == "bucket" and file.is_file():
            self._content(file, key)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _content(self, file: Path, key: str) -> None:
        size = file.stat().st_size
        first, _, last = self.headers.get("Range", f"bytes=0-{size - 1}")[6:].partition("-")
        amount = min(int(last or size - 1), size - 1) - int(first) + 1
        if self.command == "HEAD":
            return self._answer(200, b"", size=size)
        if int(first) == 0 and amount > 8:
            self.reads[key] += 1
        with file.open("rb") as content:
            content.seek(int(first))
            self._answer(206 if "Range" in self.headers else 200, content.read(amount))
        return None

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys = sorted(
            each.relative_to(self.directory).as_posix() for each in self.directory.rglob("*") if each.is_file()
        )
        found = [key for key in keys if key.startswith(prefix)]
        folders = {prefix + key[len(prefix) :].split("/")[0] + "/" for key in found if "/" in key[len(prefix) :]}
        if delimiter:
            found = [key for key in found if "/" not in key[len(prefix) :]]
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{(self.directory / key).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in found
        )
        if delimiter:
            entries += "".join(f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in sorted(folders))
        return (
            f"<ListBucketResult><Name>bucket</Name><Prefix>{prefix}</Prefix><KeyCount>{len(found)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        ).encode()

    def _answer(self, status: int, body: bytes, *, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
