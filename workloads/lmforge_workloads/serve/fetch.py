"""Bring a model to a claim once, whole and with checksums, and look at it: the replicas then read it from there.

    python -m lmforge_workloads.serve.fetch --uri hf://HuggingFaceTB/SmolLM2-135M --path /mnt/pvc/models/smollm2-135m

Whoever comes second waits for the first and finds it there. What is interrupted leaves nothing that looks like a model.
Last words are an `Inspection`, as those of `serve.inspection`.
"""

import argparse
import contextlib
import fcntl
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from lmforge_api.inspection import Inspection
from lmforge_api.oci import Reference, parse
from lmforge_api.registry import LOGIN_PATH, RegistryAccess
from lmforge_api.run import TERMINATION_LOG
from lmforge_workloads.common import artifact, modelpack
from lmforge_workloads.common.exits import DataError, UserError, classify
from lmforge_workloads.common.registry import opened
from lmforge_workloads.common.registry_login import read_login
from lmforge_workloads.common.store import Location, locate
from lmforge_workloads.serve import inspection

UNUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.tflite", "*.ot")
"""The same weights in other formats, which lie beside safetensors in many repositories."""
_OPEN = RegistryAccess()


def fetch(
    uri: str,
    target: Path,
    access: RegistryAccess = _OPEN,
    *,
    login_path: Path = Path(LOGIN_PATH),
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copies what `uri` names, unless it is there: a file, all files below a directory, or those of an OCI artifact.

    `check` is asked before anything is copied, and may raise.

    Raises UserError or DataError when there is no such place, and whatever the store raises when it can't be reached.
    """
    with _alone(target):
        if artifact.read_manifest(directory_of(target)) is not None:
            return
        metadata = {"uri": uri}
        with artifact.writing(directory_of(target), kind="Model", created_by="fetch", metadata=metadata) as staged:
            check()  # by now what somebody who was killed had copied is gone
            if uri.startswith("oci://"):
                metadata["pinned"] = _pull(parse(uri), staged, access, login_path)
                return
            source = locate(uri)
            for file in wanted(source.files()):
                name = _relative(file, source) or target.name
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                file.filesystem.get_file(file.path, str(staged / name))
                _check_size(file, staged / name)


def _pull(reference: Reference, staged: Path, access: RegistryAccess, login_path: Path) -> str:
    """Gives the URI that always names what has come, whatever becomes of the tag."""
    login = read_login(reference.registry, access, mounted=login_path)
    with opened(reference, access, login=login) as registry:
        digest = modelpack.pull(registry, staged)
    return replace(reference, tag="", digest=digest).uri


def wanted(files: Sequence[Location]) -> list[Location]:
    """The files that an engine loads: where there are safetensors, not the same weights again."""
    if not any(file.path.endswith(".safetensors") for file in files):
        return list(files)
    return [file for file in files if not any(fnmatch(file.path, pattern) for pattern in UNUSED)]


def directory_of(target: Path) -> Path:
    """A GGUF file lies in a directory of its own, which has the manifest."""
    return target.parent if target.suffix == ".gguf" else target


def _relative(file: Location, source: Location) -> str:
    below = posixpath.relpath(file.path, source.path.rstrip("/"))
    return "" if below == "." else below


def _check_size(file: Location, copy: Path) -> None:
    size = file.size()
    if size is not None and size != copy.stat().st_size:
        raise DataError(f"{copy.stat().st_size} of {size} bytes came", file=file.uri)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One copies, the others wait, and say so."""
    directory = directory_of(target)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".lock-{directory.name}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{target.name} is being fetched by another pod: waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, look, say."""
    parser = argparse.ArgumentParser(prog="lmforge_workloads.serve.fetch", description="Bring a model to a claim.")
    parser.add_argument("--uri", required=True, help="hf://, s3://, https:// or oci://")
    parser.add_argument("--path", type=Path, required=True, help="where it is to be")
    parser.add_argument("--secret", help="what people call the registry's mounted Secret (oci://)")
    parser.add_argument("--insecure", action="store_true", help="speak plain http to the registry (oci://)")
    options = parser.parse_args(arguments)

    def look() -> Inspection:
        fetch(options.uri, options.path, RegistryAccess(secret=options.secret, insecure=options.insecure))
        return inspection.inspect(options.path, name=options.uri)

    return tell(options.uri, look)


def tell(uri: str, look: Callable[[], Inspection]) -> int:
    """Says what was found. What another try may mend ends with a code, what only the user can mend with a problem."""
    try:
        return inspection.say(look())
    except (UserError, DataError, FileNotFoundError) as error:
        return inspection.say(Inspection(problem=f"{uri} can't be fetched: {error}"))
    except Exception as error:
        words = str(classify(error))
        print(words, file=sys.stderr)
        with contextlib.suppress(OSError):
            Path(TERMINATION_LOG).write_text(words)
        return classify(error).exit_code


if __name__ == "__main__":
    sys.exit(main())
