"""Look at a model that is elsewhere without copying it: before pods are started that bring it to their own nodes.

    python -m lmforge_workloads.serve.outline --uri hf://HuggingFaceTB/SmolLM2-135M

Small files are copied to a scratch directory; of large ones only the beginning, and the size as a hole. Last words are
an `Inspection`, as those of `serve.inspection`.
"""

import argparse
import contextlib
import posixpath
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmforge_api.inspection import Inspection
from lmforge_workloads.common.store import Location, locate
from lmforge_workloads.serve import fetch, inspection

WHOLE = 2**20
"""Files of so many bytes are copied; config.json and the like are smaller."""
BEGINNING = 8


def outline(uri: str, scratch: Path) -> Path:
    """The model as far as it can be known without its weights, below `scratch`.

    Raises UserError or DataError when there is no such place, and whatever the store raises when it can't be reached.
    """
    source = locate(uri)
    name = posixpath.basename(uri.rstrip("/"))
    for file in fetch.wanted(source.files()):
        below = posixpath.relpath(file.path, source.path.rstrip("/"))
        copy = scratch / name if below == "." else scratch / name / below
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy_outline(file, copy)
    return scratch / name


def _copy_outline(file: Location, copy: Path) -> None:
    size = file.size()
    with file.open() as content, copy.open("wb") as target:
        if size is not None and size > WHOLE:
            target.write(content.read(BEGINNING))
            target.truncate(size)
        else:
            target.write(content.read())


@contextlib.contextmanager
def _outlined(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        yield outline(uri, Path(scratch))


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, say."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.outline", description="Look at a remote model.")
    parser.add_argument("--uri", required=True, help="hf://, s3:// or https://")
    uri = parser.parse_args(arguments).uri

    def look() -> Inspection:
        with _outlined(uri) as path:
            return inspection.inspect(path, name=uri)

    return fetch.tell(uri, look)


if __name__ == "__main__":
    sys.exit(main())
