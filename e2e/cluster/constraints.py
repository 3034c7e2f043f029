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
    """The torch image holds torch and what only torch needs, deepspeed what train and finetune share, they the rest."""
    train, finetune = (_export(paths, extra, "--prune", "torch") for extra in ("train", "finetune"))
    shared = [line for line in train if line in finetune]
    contents = {
        "torch/constraints.txt": [line for line in _export(paths, "train") if line not in train],
        "deepspeed/requirements.txt": shared,
        "train/requirements.txt": [line for line in train if line not in shared],
        "finetune/requirements.txt": [line for line in finetune if line not in shared],
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

    Of the CPU build, all that the torch image holds already is left out, and has to be what vLLM gets along with.
    """
    constraints = REPOSITORY / "images" / "torch" / "constraints.txt"
    overrides = REPOSITORY / "images" / "vllm" / "overrides.txt"
    shared = constraints.read_text()
    on_cpu = _resolve(paths, "vllm", "2_28", "--override", overrides, "--constraints", constraints)
    _write_lock("vllm", [line for line in on_cpu if line not in shared])
    _write_lock("vllm-cuda", _resolve(paths, "vllm-cuda", "2_35"))


def _resolve(paths: Paths, image: str, glibc: str, *options: str | Path) -> Sequence[str]:
    wanted = REPOSITORY / "images" / image / "requirements.in"
    python = ("--python-version", "3.11", "--python-platform", f"x86_64-manylinux_{glibc}")
    text = run(_uv(paths), "pip", "compile", "--quiet", "--no-annotate", "--no-header", *python, *options, wanted)
    return text.splitlines()


def _write_lock(image: str, lines: Sequence[str]) -> None:
    (REPOSITORY / "images" / image / "requirements.txt").write_text(LOCK_HEADER + "".join(f"{x}\n" for x in lines))


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
