"""What runs in the native cluster from the start: DNS and dynamic volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import mounts
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.network import DNS_SERVICE
from e2e.cluster.node import upstream_name_servers
from e2e.cluster.shell import run

MANIFESTS = Path(__file__).resolve().parent / "manifests"
SMALL_VOLUMES_MIB = 64


@dataclass(frozen=True)
class Volumes:
    """The folders of the two StorageClasses: `standard`, and `small`, which is soon full."""

    folder: Path

    @property
    def standard(self) -> Path:
        return self.folder / "standard"

    @property
    def small(self) -> Path:
        return self.folder / "small"

    def create(self) -> None:
        self.small.mkdir(parents=True, exist_ok=True)
        if str(self.small) not in mounts.below(self.folder):
            self._mount_small()
        for folder in (self.standard, self.small):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)

    def _mount_small(self) -> None:
        """A file system of its own in a file: what is written to a tmpfs would count as the pod's memory."""
        disk = self.folder / "small.ext4"
        run("truncate", f"--size={SMALL_VOLUMES_MIB}M", disk)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", disk)
        run("mount", "-o", "loop", disk, self.small)
        (self.small / "lost+found").rmdir()

    def remove(self) -> None:
        mounts.remove(self.folder)


def install(control_plane: ControlPlane, *, system_image: str, volumes: Volumes) -> None:
    """Applies the manifests; a second time changes nothing."""
    forward = "forward . /etc/resolv.conf" if upstream_name_servers() else ""
    words = {
        "SYSTEM_IMAGE": system_image,
        "DNS_SERVICE": DNS_SERVICE,
        "FORWARD": forward,
        "SMALL_VOLUMES": str(volumes.small),
        "VOLUMES": str(volumes.standard),
    }
    manifests = "---\n".join(_filled(name, words) for name in ("coredns.yaml", "storage.yaml"))
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)


def _filled(name: str, words: Mapping[str, str]) -> str:
    text = (MANIFESTS / name).read_text()
    for word, value in words.items():  # the longer words come first: SMALL_VOLUMES before VOLUMES
        text = text.replace(word, value)
    return text
