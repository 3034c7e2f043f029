"""What uv.lock says about each image, written beside its Dockerfile, so that plain `docker build` finds it too."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.errors import ToolMissing
from e2e.cluster.paths import REPOSITORY, Paths
from e2e.cluster.shell import run

HEADER = "# Written by `python -m e2e.cluster constraints` from uv.lock: do not edit.\n"
LOCK_HEADER = "# Written by `python -m e2e.cluster lock` from requirements.in: do not edit.\n"


def write(paths: Paths) -> None:
    for file, content in expected(paths).items():
        if not file.exists() or file.read_text() != content:
            file.write_text(content)


def expected(paths: Paths) -> Mapping[Path, str]:
    """The torch image holds torch and what only torch needs; the train image holds the rest of that extra."""
    train = _export(paths, "train")
    without_torch = _export(paths, "train", "--prune", "torch")
    contents = {
        "torch/constraints.txt": [line for line in train if line not in without_torch],
        "train/requirements.txt": without_torch,
        "operator/requirements.txt": _export(paths, "operator"),
        "serve/requirements.txt": _export(paths, "serve"),
        "onnx/requirements.txt": _export(paths, "onnx"),
    }
    return {
        REPOSITORY / "images" / name: HEADER + "".join(f"{line}\n" for line in lines)
        for name, lines in contents.items()
    }


def lock(paths: Paths) -> None:
    """Resolves anew what vLLM brings: its pins exclude the trainer's, so uv.lock cannot hold both.

    Everything that the torch image holds already is left out, and has to be what vLLM gets along with.
    """
    folder = REPOSITORY / "images" / "vllm"
    options = ("--no-annotate", "--no-header", "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")
    shared = (REPOSITORY / "images" / "torch" / "constraints.txt").read_text()
    text = run(
        *(_uv(paths), "pip", "compile", "--quiet", *options, "--override", folder / "overrides.txt"),
        *("--constraints", REPOSITORY / "images" / "torch" / "constraints.txt", folder / "requirements.in"),
    )
    own = [line for line in text.splitlines() if line not in shared]
    (folder / "requirements.txt").write_text(LOCK_HEADER + "".join(f"{line}\n" for line in own))


def _export(paths: Paths, extra: str, *options: str) -> Sequence[str]:
    command = (
        "export",
        "--quiet",
        "--frozen",
        "--no-default-groups",
        "--no-emit-project",
        "--no-hashes",
        "--no-annotate",
    )
    text = run(_uv(paths), *command, "--no-header", "--extra", extra, *options, cwd=REPOSITORY)
    return [line for line in text.splitlines() if line and "sys_platform == 'win32'" not in line]


def _uv(paths: Paths) -> str:
    own = paths.cache / "uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if not found:
        raise ToolMissing("uv is needed to read uv.lock. Install it with: pip install uv")
    return found
