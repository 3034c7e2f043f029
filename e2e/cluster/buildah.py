"""buildah, with its storage in the cache: builds images without a container engine, and pushes them to the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.paths import Paths
from e2e.cluster.shell import run, succeeds


@dataclass(frozen=True)
class Buildah:
    paths: Paths

    @property
    def storage(self) -> Path:
        return self.paths.cache / "buildah"

    def build(
        self,
        reference: str,
        *,
        dockerfile: Path,
        context: Path,
        arguments: Mapping[str, str] | None = None,
        volumes: Sequence[str] = (),
    ) -> None:
        self._run(
            *("build", "--isolation", "chroot", "--layers", "--quiet", "--tag", reference, "--file", str(dockerfile)),
            *(word for name, value in (arguments or {}).items() for word in ("--build-arg", f"{name}={value}")),
            *(word for volume in volumes for word in ("--volume", volume)),
            str(context),
        )

    def has(self, reference: str) -> bool:
        return succeeds(*self._command("inspect", "--type", "image", reference))

    def push(self, reference: str) -> None:
        """Uncompressed: over a local link, compressing gigabytes would take far longer than sending them."""
        self._run("push", "--quiet", "--tls-verify=false", "--disable-compression", reference, f"docker://{reference}")

    def import_root(self, reference: str, archive: Path) -> None:
        """Makes an image of one layer from a tar file of a whole file system."""
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", container, str(archive), "/")
            self._run("commit", "--quiet", container, reference)
        finally:
            self._run("rm", container)

    def pull(self, reference: str, *, timeout: float) -> bool:
        """Whether it could be fetched from its registry within ``timeout`` seconds."""
        return succeeds("timeout", f"{timeout:.0f}", *self._command("pull", "--quiet", reference))

    def _run(self, *arguments: str) -> str:
        return run(*self._command(*arguments))

    def _command(self, *arguments: str) -> Sequence[str]:
        where = ("--root", str(self.storage), "--runroot", str(self.storage / "run"), "--storage-driver", "overlay")
        return ["buildah", *where, *arguments]
