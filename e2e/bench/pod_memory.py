"""The most memory that a pod has at once, as the kernel of its node counts it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e.cluster.cgroups import NodeGroup
from e2e.lmforge import Kube

INTERVAL = 0.1
ALLOCATED = ("total_rss", "anon")
"""Names in memory.stat, of version 1 and of version 2."""


class PodMemory:
    """Looks ten times a second, at the pod that these labels select, from its start to its end.

    with PodMemory(kube, "job-name=plain") as memory:
        ...
    memory.peak
    """

    def __init__(self, kube: Kube, selector: str) -> None:
        self.peak = 0
        """Bytes of all its processes together; see `allocated`."""
        self._kube = kube
        self._selector = selector
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        file = None
        while file is None and not self._over.wait(10 * INTERVAL):
            file = self._find()
        while file is not None and not self._over.wait(INTERVAL):
            try:
                self.peak = max(self.peak, allocated(file.read_text()))
            except OSError:  # the pod has ended
                return

    def _find(self) -> Path | None:
        for pod in self._kube.items("pods", "-l", self._selector):
            if node := pod["spec"].get("nodeName"):
                return NodeGroup(node).memory_of_pod(pod["metadata"]["uid"])
        return None


def allocated(stat: str) -> int:
    """Bytes that processes have allocated, of a memory.stat. Pages of files, which the kernel can drop, don't count."""
    values = dict(line.split() for line in stat.splitlines())
    return next(int(values[name]) for name in ALLOCATED if name in values)
