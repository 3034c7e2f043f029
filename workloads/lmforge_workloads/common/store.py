"""Where bytes are: a URI becomes an fsspec filesystem and a path on it.

file:// (and plain paths) the container's own mounts; pvc:// is resolved to these by the operator
s3://    Arrow's client; credentials and endpoint from the usual AWS variables of the pod
https:// single files
hf://    Hugging Face Hub: hf://datasets/org/name@revision/path

Only what is asked for is read. A path can't climb out of where it starts (`..` is refused), and a URL can't reach
the node, the cloud's metadata service or the Kubernetes API.
"""

import ipaddress
import posixpath
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

from lmforge_workloads.common.exits import DataError, UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SCHEMES = ("file", "s3", "https", "hf")
_FORBIDDEN_HOSTS = ("localhost", "metadata", "metadata.google.internal", "kubernetes", "kubernetes.default")
_METADATA_ADDRESSES = (ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200"))

Resolve = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Location:
    """A place in a store: `path` is what `filesystem` understands, `uri` what people wrote."""

    filesystem: "AbstractFileSystem"
    path: str
    uri: str

    def join(self, name: str) -> "Location":
        """A place below this one."""
        _refuse_climbing(name)
        return Location(self.filesystem, posixpath.join(self.path, name), posixpath.join(self.uri, name))

    def exists(self) -> bool:
        """Whether something is there."""
        return bool(self.filesystem.exists(self.path))

    def size(self) -> int | None:
        """Bytes, where the store says so."""
        size = self.filesystem.info(self.path).get("size")
        return None if size is None else int(size)

    def open(self, *, compression: str | None = None) -> IO[bytes]:
        """Open for reading; `infer` unpacks .gz, .bz2, .xz by name."""
        return cast(IO[bytes], self.filesystem.open(self.path, "rb", compression=compression))

    def read(self) -> bytes:
        """All of a small file."""
        with self.open() as file:
            return file.read()

    def files(self) -> list["Location"]:
        """The file itself, all files below a directory (hidden ones left out), or what a glob matches; by name."""
        if self._is_glob():
            found = [path for path in self.filesystem.glob(self.path) if not self.filesystem.isdir(path)]
        elif self.filesystem.isdir(self.path):
            found = self.filesystem.find(self.path)
        elif self.exists():
            return [self]
        else:
            raise DataError(
                "there is nothing here: check the URI and that the volume or bucket holds it", file=self.uri
            )
        base = _base(self.path) if self._is_glob() else self.path.rstrip("/")
        hidden = [path for path in found if _is_hidden(posixpath.relpath(path, base))]
        kept = sorted(set(found) - set(hidden))
        if not kept:
            raise DataError("no files are here", file=self.uri)
        return [Location(self.filesystem, path, self.filesystem.unstrip_protocol(path)) for path in kept]

    def _is_glob(self) -> bool:
        return any(char in self.path for char in "*?[") and not self.exists()


def locate(uri: str, *, resolve: Resolve | None = None) -> Location:
    """Find the filesystem of `uri`, or raise `UserError`. `resolve` gives a host's addresses (DNS by default)."""
    parts = urlsplit(uri) if "://" in uri else None
    scheme = parts.scheme if parts else "file"
    if scheme not in _SCHEMES:
        raise UserError(f"{uri}: no store is known for {scheme}://, use one of {', '.join(_SCHEMES)}")
    _refuse_climbing(uri)
    if parts is None or scheme == "file":
        return _local(uri if parts is None else unquote(parts.path))
    if scheme == "https":
        refuse_internal(parts.hostname or "", resolve=resolve or addresses)
    return _remote(scheme, uri)


def local_directory(uri: str, *, scratch: Path) -> Path:
    """A local directory with the files of `uri`: its own where it is local, else a copy below `scratch`."""
    place = locate(uri)
    if place.filesystem.protocol in ("file", ("file", "local")):
        return Path(place.path)
    for file in place.files():
        target = scratch / posixpath.relpath(file.path, place.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.filesystem.get_file(file.path, str(target))
    return scratch


def refuse_internal(host: str, *, resolve: Resolve) -> None:
    """Raise `UserError` when a host is the node itself, cloud metadata or the Kubernetes API."""
    name = host.rstrip(".").lower()
    if name in _FORBIDDEN_HOSTS or name.startswith("kubernetes.default."):
        raise UserError(f"https://{host} is an address inside the cluster's own machinery: name a data store")
    for text in resolve(name):
        address = ipaddress.ip_address(text.split("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or address.is_link_local or address.is_unspecified or address in _METADATA_ADDRESSES:
            raise UserError(f"https://{host} leads to {address}, inside the cluster's own machinery: name a data store")


def _local(path: str) -> Location:
    from fsspec.implementations.local import LocalFileSystem  # 0.2 s: only programs that read pay it

    return Location(LocalFileSystem(), str(Path(path).absolute()), path)


def _remote(scheme: str, uri: str) -> Location:
    from fsspec import filesystem

    if scheme == "s3":
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import S3FileSystem

        bucket = uri.removeprefix("s3://").split("/")[0]
        s3, _ = S3FileSystem.from_uri(f"s3://{bucket}")  # unlike the constructor, this heeds AWS_ENDPOINT_URL
        return Location(ArrowFSWrapper(s3), uri.removeprefix("s3://"), uri)
    return Location(filesystem(scheme), uri if scheme == "https" else uri.removeprefix("hf://"), uri)


def _refuse_climbing(path: str) -> None:
    if ".." in unquote(path).replace("\\", "/").split("/") or "\0" in unquote(path):
        raise UserError(f"{path}: a path must not contain '..'")


def _base(pattern: str) -> str:
    """The part of a glob before its first wildcard."""
    folders = pattern.split("/")
    wild = next(index for index, part in enumerate(folders) if any(char in part for char in "*?["))
    return "/".join(folders[:wild])


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def addresses(host: str) -> list[str]:
    """What DNS says."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
    except OSError as error:
        raise UserError(f"https://{host} can't be reached: its name can't be resolved ({error})") from error
