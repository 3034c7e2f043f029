"""An OCI registry of the tests' own: Debian's docker-registry, on an address of this machine."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "docker-registry"
USER, PASSWORD = "ann", "s3cret"
_HTPASSWD = "ann:$2b$04$IQF/qXpbaV.Yk5Kkao5tqe17VgWOhzQqd/hf9MClRSTPqdLxXkDD6\n"


@dataclass
class OciRegistry:
    directory: Path
    address: str
    login: bool = False

    @property
    def log(self) -> str:
        """What it has written: a line for each request."""
        return (self.directory / "log").read_text()

    def sent(self, method: str) -> int:
        """How many requests of this method have come."""
        return sum(f'"{method} ' in line for line in self.log.splitlines())

    def tags(self, repository: str) -> list[str]:
        """Its tags."""
        request = urllib.request.Request(f"http://{self.address}/v2/{repository}/tags/list")
        if self.login:
            request.add_header("Authorization", f"Basic {_encoded(PASSWORD)}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return list(json.load(answer)["tags"] or [])
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []  # of a repository that nothing was tagged in

    def secret(self, mounted: Path, *, password: str = PASSWORD, host: str = "") -> Path:
        """A Secret of type kubernetes.io/dockerconfigjson, as it is mounted."""
        mounted.mkdir(parents=True, exist_ok=True)
        auths = {"auths": {host or self.address: {"auth": _encoded(password)}}}
        (mounted / ".dockerconfigjson").write_text(json.dumps(auths))
        return mounted


def _encoded(password: str) -> str:
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


@contextmanager
def oci_registry(directory: Path, *, login: bool = False, at: str = "") -> Iterator[OciRegistry]:
    """Until the end of the block. Not on loopback, which programs refuse to fetch from."""
    program = shutil.which(PROGRAM)
    assert program, f"{PROGRAM} is missing: make servers, or apt-get install -y docker-registry"
    directory.mkdir(parents=True, exist_ok=True)
    registry = OciRegistry(directory, at or _free_address(), login)
    (directory / "htpasswd").write_text(_HTPASSWD)
    auth = {"auth": {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}} if login else {}
    config = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}, "level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": registry.address, "secret": "tests"},
        **auth,
    }
    (directory / "config.yml").write_text(json.dumps(config))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        _wait(registry, process)
        yield registry
    finally:
        process.terminate()
        process.wait(10)


def _free_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))  # sends nothing, and tells which address of ours would
        host = route.getsockname()[0]
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def _wait(registry: OciRegistry, process: subprocess.Popen[bytes]) -> None:
    host, _, port = registry.address.partition(":")
    ends = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, f"{PROGRAM} ended: {registry.log}"
            assert time.monotonic() < ends, f"{PROGRAM} doesn't answer within 20 s"
            time.sleep(0.02)
