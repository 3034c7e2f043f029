"""Bring a model to a folder of this node once: the engine of this pod, and of others on the node, reads it from there.

    python -m lmforge_workloads.serve.node_cache --uri hf://HuggingFaceTB/SmolLM2-135M \
        --path /mnt/node-cache/chats/1a2b/smollm2 --folder /var/lib/lmforge/models

The first pod of a node copies it, the others wait and say so. Whoever dies on the way leaves nothing that looks like a
model, and lets go of the lock. Nothing is ever removed: that is the administrator's (see images/serve/README.md).
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lmforge_api.run import TERMINATION_LOG, ExitCode
from lmforge_workloads.common.exits import StoreFull, UserError, classify
from lmforge_workloads.common.store import locate
from lmforge_workloads.serve.fetch import directory_of, fetch, wanted

MIB = 2**20
_REMEDY = "the administrator has to remove models there that nobody serves, or make it larger"


def keep(uri: str, target: Path, *, folder: str) -> None:
    """Has the model at `target`, below a folder of the node that people know as `folder`.

    Raises UserError where the folder can't be written, StoreFull where the model doesn't fit, and what `fetch` raises.
    """
    _check_writable(directory_of(target).parent, folder=folder)
    try:
        fetch(uri, target, check=lambda: _check_room(uri, directory_of(target).parent, folder=folder))
    except OSError as error:
        if isinstance(classify(error), StoreFull):
            raise StoreFull(f"folder {folder} became full on the way: {_REMEDY}") from error
        raise


def _check_writable(place: Path, *, folder: str) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        if isinstance(classify(error), StoreFull):
            raise StoreFull(f"folder {folder} is full: {_REMEDY}") from error
        user = os.getuid()
        raise UserError(
            f"user {user} can't write to folder {folder} ({error.strerror}): the administrator has to give it to that "
            f"user on each node, as in `install -d -o {user} {folder}`"
        ) from error


def _check_room(uri: str, place: Path, *, folder: str) -> None:
    needed = sum(file.size() or 0 for file in wanted(locate(uri).files()))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StoreFull(f"folder {folder} has {free / MIB:.0f} MiB left, and {uri} takes {needed / MIB:.0f}: {_REMEDY}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Ends well when the model is there; else says why, as last words too, with a code."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.node_cache", description="Bring a model to a node.")
    parser.add_argument("--uri", required=True, help="hf://, s3:// or https://")
    parser.add_argument("--path", type=Path, required=True, help="where it is to be")
    parser.add_argument("--folder", required=True, help="what the node calls the folder that this is below")
    options = parser.parse_args(arguments)
    try:
        keep(options.uri, options.path, folder=options.folder)
    except Exception as error:
        known = classify(error)
        words = str(known) if isinstance(known, StoreFull | UserError) else f"{options.uri} can't be fetched: {known}"
        print(words, file=sys.stderr)
        with contextlib.suppress(OSError):
            Path(TERMINATION_LOG).write_text(words)
        return known.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
