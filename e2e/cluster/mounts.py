"""Removing folders that may hold mounts which a crash left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e.cluster.shell import run


def below(folder: Path) -> list[str]:
    """Mount points in ``folder`` or deeper, the deepest and latest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if Path(point).is_relative_to(folder)]


def remove(folder: Path) -> None:
    """Unmounts all that is mounted in ``folder``, then deletes it. A lazy unmount also works when it's in use."""
    for point in below(folder):
        run("umount", "--lazy", point, check=False)
    if below(folder):
        raise RuntimeError(f"{folder} still holds mounts: deleting it could delete what is mounted there")
    shutil.rmtree(folder, ignore_errors=True)
