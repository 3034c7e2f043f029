"""A control group for everything that runs on one node, its agents and its containers, and one for the control plane.

It gives the kubelet a root of its own, so that several fit on one machine; and it is the proof of what belongs to a
node, so that a node can be switched off at once, also after a crash, without touching anybody else's processes.
Version 1 (one tree a controller) and version 2 (one tree) both occur.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.shell import wait_for

PARENT = "lmforge"
# Under full load a node must still say that it is alive, and the API server answer: the control plane goes before the
# nodes, their agents before their pods, the cluster before the rest, but not far before the kernel's own workers.
CONTROL_PLANE_WEIGHT = 8
AGENTS_WEIGHT = 8
CLUSTER_WEIGHT = 2


@dataclass(frozen=True)
class NodeGroup:
    """The control groups /lmforge/<node> (with the kubelet's kubepods below) and /lmforge/<node>/agents."""

    node: str
    weight: int = 1
    """Its share beside other nodes."""

    @property
    def path(self) -> str:
        return f"/{PARENT}/{self.node}"

    def create(self) -> None:
        for tree in _trees():
            for name in (PARENT, f"{PARENT}/{self.node}", f"{PARENT}/{self.node}/agents"):
                _make(tree / name)
            _set_weight(tree / PARENT, CLUSTER_WEIGHT)
            _set_weight(tree / PARENT / self.node, self.weight)
            _set_weight(tree / PARENT / self.node / "agents", AGENTS_WEIGHT)

    def joining(self, argv: Sequence[str]) -> Sequence[str]:
        """A command that runs ``argv`` among the node's agents; its children (shims) are born there too."""
        files = [str(tree / PARENT / self.node / "agents" / "cgroup.procs") for tree in _trees()]
        script = f'for file in {" ".join(files)}; do echo $$ > "$file"; done; exec "$@"'
        return ["sh", "-c", script, "sh", *argv]

    def memory_of_pod(self, uid: str) -> Path | None:
        """The memory.stat of a pod, with all of its containers; None as long as it has no group."""
        found = (file for tree in _trees() for file in (tree / PARENT / self.node).rglob(f"pod{uid}/memory.stat"))
        return next(found, None)

    def kill(self) -> None:
        """Ends all processes of the node at once, containers included."""

        def empty() -> bool:
            members = set(self._members())
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not members

        wait_for(empty, what=f"the end of all processes of {self.node}", seconds=30, interval=0.05)

    def remove(self) -> None:
        for tree in _trees():
            for folder in _bottom_up(tree / PARENT / self.node):
                with suppress(FileNotFoundError):
                    folder.rmdir()
            with suppress(OSError):  # another node still has its own below
                (tree / PARENT).rmdir()

    def _members(self) -> Iterator[int]:
        for tree in _trees():
            for folder in _bottom_up(tree / PARENT / self.node):
                with suppress(OSError):
                    yield from (int(pid) for pid in (folder / "cgroup.procs").read_text().split())


def _trees() -> Sequence[Path]:
    """Where each hierarchy is mounted: with version 2 there is one, and version 1 may have that one beside its own."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty until they are copied, and then unusable
        if (folder / name).exists() and not (folder / name).read_text().strip():
            with suppress(OSError):
                (folder / name).write_text((folder.parent / name).read_text())
    control = folder.parent / "cgroup.subtree_control"
    if control.exists():
        for controller in (folder.parent / "cgroup.controllers").read_text().split():
            with suppress(OSError):
                control.write_text(f"+{controller}")


def _set_weight(folder: Path, weight: int) -> None:
    """``weight`` times the share that a group has by default."""
    for name, default in (("cpu.shares", 1024), ("cpu.weight", 100)):
        if (folder / name).exists():
            (folder / name).write_text(str(default * weight))


def _bottom_up(folder: Path) -> Iterator[Path]:
    for current, _, _ in os.walk(folder, topdown=False):
        yield Path(current)
