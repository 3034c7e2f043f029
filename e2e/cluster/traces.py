"""What a node's programs leave outside its folder, at places that they don't let one choose."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from e2e.cluster.node_config import NodeFiles

NETWORK_RESULTS = Path("/var/lib/cni/results")
LOG_LINKS = Path("/var/log/containers")


def remove(files: NodeFiles, *, network: str) -> None:
    """Deletes them for the node that keeps its things in ``files``, once its processes have ended."""
    _remove_shim_sockets(files.containers)
    _remove_network_results(network)
    _remove_log_links(files.folder)


def _remove_shim_sockets(containers: Path) -> None:
    """Shims listen elsewhere; each container's folder says where."""
    for address in containers.glob("io.containerd.runtime.v2.task/*/*/address"):
        with suppress(OSError):
            Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def _remove_network_results(network: str) -> None:
    """One for each sandbox, and another for its loopback, which is known by the sandbox's id only."""
    for result in NETWORK_RESULTS.glob(f"{network}-*-eth0"):
        sandbox = result.name.removeprefix(f"{network}-").removesuffix("-eth0")
        (NETWORK_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)


def _remove_log_links(folder: Path) -> None:
    for link in LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(folder):
            link.unlink(missing_ok=True)
