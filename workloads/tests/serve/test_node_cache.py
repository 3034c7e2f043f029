"""A node's pods share one copy of a model: real processes over a real bucket, one of them killed on the way."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from s3_server import Gate, bucket
from test_model_fetch import GGUF, TINY

from lmforge_api.artifact import MANIFEST_NAME
from lmforge_api.inspection import Inspection
from lmforge_workloads.common import artifact
from lmforge_workloads.common.exits import StoreFull, UserError, WorkloadError
from lmforge_workloads.serve import outline
from lmforge_workloads.serve.fetch import fetch
from lmforge_workloads.serve.node_cache import keep, main

FOLDER = "/var/lib/lmforge/models"
URI = "s3://bucket/tiny"


def fetcher(target: Path, *, uri: str = URI) -> subprocess.Popen[str]:
    """The program as a pod runs it."""
    command = ("-m", "lmforge_workloads.serve.node_cache", "--uri", uri, "--path", str(target), "--folder", FOLDER)
    return subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)


def waits(process: subprocess.Popen[str]) -> None:
    """Returns once it has said that it waits for another."""
    assert process.stderr is not None
    assert process.stderr.readline() == "tiny is being fetched by another pod: waiting for it\n"


def test_pods_that_come_at_once_fetch_it_once_and_who_waits_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, target = Gate("tiny/model.safetensors"), tmp_path / "chats/1a2b/tiny"
    with bucket(TINY, monkeypatch, gate=gate):
        first = fetcher(target)
        assert gate.reached.wait(60)
        second = fetcher(target)
        waits(second)
        assert not target.exists(), "nothing that looks like a model before it is whole"
        gate.opened.set()
        assert [first.wait(60), second.wait(60)] == [0, 0]
        assert gate.passed == 1
    assert artifact.verify(target) == []


def test_who_waits_goes_on_when_the_one_that_fetches_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, target = Gate("tiny/model.safetensors"), tmp_path / "chats/1a2b/tiny"
    with bucket(TINY, monkeypatch, gate=gate):
        first = fetcher(target)
        assert gate.reached.wait(60)
        second = fetcher(target)
        waits(second)
        first.send_signal(signal.SIGKILL)
        assert first.wait(60) == -signal.SIGKILL
        gate.opened.set()
        assert second.wait(60) == 0
        assert gate.passed == 2
    assert artifact.verify(target) == []
    assert sorted(path.name for path in target.parent.iterdir()) == [".lock-tiny", "tiny"]


def test_what_a_killed_one_left_is_gone_before_room_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, target, seen = Gate("tiny/model.safetensors"), tmp_path / "chats/1a2b/tiny", list[int]()
    with bucket(TINY, monkeypatch, gate=gate):
        first = fetcher(target)
        assert gate.reached.wait(60)
        first.send_signal(signal.SIGKILL)
        first.wait(60)
        gate.opened.set()
        assert any(path.is_file() for path in target.parent.rglob("*.json")), "something is left"
        fetch(URI, target, check=lambda: seen.append(len(list(target.parent.rglob("*.json")))))
    assert seen == [0]


def test_pods_with_the_same_process_id_find_the_folder_writable_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(TINY, monkeypatch):
        keep(URI, tmp_path / "tiny", folder=FOLDER)
        with ThreadPoolExecutor(8) as pods:
            for done in [pods.submit(keep, URI, tmp_path / "tiny", folder=FOLDER) for _ in range(2000)]:
                done.result()


def test_a_gguf_file_is_kept_in_a_directory_with_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "chats/1a2b/tiny.gguf"
    with bucket(GGUF, monkeypatch):
        keep("s3://bucket/models/tiny.gguf", target, folder=FOLDER)
    assert sorted(path.name for path in target.parent.iterdir()) == [MANIFEST_NAME, "tiny.gguf"]


def test_a_model_that_does_not_fit_is_refused_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate("huge/model.safetensors")
    gate.opened.set()
    told = (
        rf"folder {FOLDER} has \d+ MiB left, and s3://bucket/huge takes 1099511627776: the administrator has to remove"
    )
    with (
        bucket({gate.key: b"x"}, monkeypatch, gate=gate, sizes={gate.key: 2**60}),
        pytest.raises(StoreFull, match=told),
    ):
        keep("s3://bucket/huge", tmp_path / "a/b/huge", folder=FOLDER)
    assert gate.passed == 0


def _as_a_pod(folder: Path, answer: Connection) -> None:
    if os.getuid() == 0:
        os.setuid(65532)
    try:
        keep(URI, folder / "chats/1a2b/tiny", folder=FOLDER)
    except WorkloadError as error:
        answer.send((type(error), str(error), os.getuid()))


def test_a_folder_that_is_not_the_pods_to_write_is_said_with_what_the_administrator_has_to_do(tmp_path: Path) -> None:
    folder = Path(__file__).parent if os.getuid() == 0 else tmp_path
    folder.chmod(0o555) if os.getuid() else None
    ours, theirs = multiprocessing.Pipe()
    pod = multiprocessing.get_context("fork").Process(target=_as_a_pod, args=(folder, theirs))
    pod.start()
    assert ours.poll(60)
    kind, words, user = ours.recv()
    pod.join()
    assert (kind, words) == (
        UserError,
        f"user {user} can't write to folder {FOLDER} (Permission denied): the administrator has to give it to that "
        f"user on each node, as in `install -d -o {user} {FOLDER}`",
    )


def test_what_can_not_be_fetched_ends_with_a_code_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bucket(TINY, monkeypatch):
        code = main(["--uri", "s3://bucket/nothing", "--path", str(tmp_path / "tiny"), "--folder", FOLDER])
    assert code != 0
    assert capsys.readouterr().err.startswith("s3://bucket/nothing can't be fetched: s3://bucket/nothing: there is n")


def test_a_model_elsewhere_is_looked_at_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = b"w" * (3 * outline.WHOLE)
    with bucket(TINY | {"tiny/model.safetensors": weights}, monkeypatch):
        assert outline.main(["--uri", URI]) == 0
    found = Inspection.model_validate_json(capsys.readouterr().out)
    assert (found.problem, found.format, found.size_bytes) == ("", "HuggingFace", len(weights))
    assert found.shape is not None
    assert found.shape.layers == 4


def test_a_gguf_file_elsewhere_is_known_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bucket(GGUF, monkeypatch):
        assert outline.main(["--uri", "s3://bucket/models/tiny.gguf"]) == 0
    assert Inspection.model_validate_json(capsys.readouterr().out).format == "GGUF"
