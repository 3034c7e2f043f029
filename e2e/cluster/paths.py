"""Where things are kept: what is costly to make in a cache that clean checkouts share, what runs in the state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS_SOURCE = Path(__file__).resolve().parent / "tools"


@dataclass(frozen=True)
class Paths:
    """``cache`` survives `down`; ``state`` is removed by it, except for what the next user reads (images.json)."""

    cache: Path
    state: Path

    @property
    def bin(self) -> Path:
        return self.cache / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def images_file(self) -> Path:
        return self.state / "images.json"


def default_paths() -> Paths:
    """Read once, by the command line and by test fixtures: LMFORGE_CACHE and LMFORGE_STATE move them."""
    cache = Path(os.environ.get("LMFORGE_CACHE", Path.home() / ".cache" / "lmforge"))
    return Paths(cache=cache, state=Path(os.environ.get("LMFORGE_STATE", cache / "cluster")))
