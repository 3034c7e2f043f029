"""A model is brought to a claim once, whole, with checksums; over real HTTP from a bucket."""

import json
import multiprocessing
from pathlib import Path

import pytest
from oci_registry import oci_registry
from s3_server import bucket

from lmforge_api.artifact import MANIFEST_NAME
from lmforge_api.inspection import Inspection
from lmforge_api.oci import Reference
from lmforge_api.registry import RegistryAccess
from lmforge_api.run import ExitCode
from lmforge_workloads.common import artifact, modelpack
from lmforge_workloads.common.registry import opened
from lmforge_workloads.common.registry_login import read_login
from lmforge_workloads.serve.fetch import fetch, main

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 6, "hidden_size": 384,
    "max_position_embeddings": 2048,
}  # fmt: skip
TINY = {
    "tiny/config.json": json.dumps(CONFIG).encode(),
    "tiny/model.safetensors": b"weights" * 1000,
    "tiny/tokenizer.json": b"{}",
    "tiny/pytorch_model.bin": b"the same once more",
    "tiny/onnx/model.onnx": b"and once more",
}
GGUF = {"models/tiny.gguf": b"GGUF\x03\0\0\0"}


def said(capsys: pytest.CaptureFixture[str]) -> Inspection:
    return Inspection.model_validate_json(capsys.readouterr().out)


def test_a_directory_comes_whole_without_the_same_weights_in_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "claim/models/tiny"
    with bucket(TINY, monkeypatch):
        assert main(["--uri", "s3://bucket/tiny", "--path", str(target)]) == 0
    found = said(capsys)
    assert (found.problem, found.format, found.size_bytes) == ("", "HuggingFace", 7000)
    assert sorted(file.name for file in target.iterdir()) == [
        "config.json", MANIFEST_NAME, "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert artifact.verify(target) == []
    manifest = artifact.read_manifest(target)
    assert manifest is not None
    assert found.digest == manifest.digest


def test_a_gguf_file_comes_into_a_directory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "claim/1a2b/tiny.gguf"
    with bucket(GGUF, monkeypatch):
        assert main(["--uri", "s3://bucket/models/tiny.gguf", "--path", str(target)]) == 0
    assert said(capsys).format == "GGUF"
    assert artifact.verify(target.parent) == []


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket(TINY, monkeypatch):
        fetch("s3://bucket/tiny", tmp_path / "tiny")
    fetch("s3://bucket/tiny", tmp_path / "tiny")  # the bucket is gone


def test_a_place_that_is_not_there_is_a_problem_that_only_the_user_can_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bucket(TINY, monkeypatch):
        assert main(["--uri", "s3://bucket/nothing", "--path", str(tmp_path / "tiny")]) == 0
    assert said(capsys).problem.startswith(
        "s3://bucket/nothing can't be fetched: s3://bucket/nothing: there is nothing"
    )
    assert not (tmp_path / "tiny").exists()


def test_what_breaks_off_in_the_middle_is_worth_another_try_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(TINY, monkeypatch, denied="tiny/tokenizer.json"):
        assert main(["--uri", "s3://bucket/tiny", "--path", str(tmp_path / "tiny")]) != 0
    assert [path.name for path in tmp_path.iterdir()] == [".lock-tiny"]


def test_two_at_once_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket(TINY, monkeypatch):
        context = multiprocessing.get_context("spawn")
        both = [context.Process(target=fetch, args=("s3://bucket/tiny", tmp_path / "tiny")) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join(60)
    assert [each.exitcode for each in both] == [0, 0]
    assert artifact.verify(tmp_path / "tiny") == []


def test_an_oci_artifact_comes_whole_and_pinned_with_the_login_of_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    access = RegistryAccess(secret="registry-login", insecure=True)
    with oci_registry(tmp_path / "registry", login=True) as registry:
        secret = registry.secret(tmp_path / "secret")
        reference = Reference(registry.address, "models/tiny", tag="1")
        with artifact.writing(tmp_path / "model", kind="model", created_by="tests") as staged:
            (staged / "model.safetensors").write_bytes(b"weights")
        manifest = artifact.read_manifest(tmp_path / "model")
        assert manifest is not None
        with opened(reference, access, login=read_login(registry.address, access, mounted=secret)) as client:
            digest = modelpack.push(client, tmp_path / "model", manifest)
        fetch(reference.uri, tmp_path / "claim/tiny", access, login_path=secret)
        assert main(["--uri", reference.uri, "--path", str(tmp_path / "open"), "--insecure"]) == 0
    fetched = artifact.read_manifest(tmp_path / "claim/tiny")
    assert fetched is not None
    assert (fetched.digest, artifact.verify(tmp_path / "claim/tiny")) == (manifest.digest, [])
    assert fetched.metadata["pinned"] == f"oci://{registry.address}/models/tiny@{digest}"
    assert "refuses requests without a login" in said(capsys).problem
    assert not (tmp_path / "open").exists()


def test_a_registry_that_cannot_be_reached_is_worth_another_try(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        uri = f"oci://{registry.address}/models/tiny:1"
    assert main(["--uri", uri, "--path", str(tmp_path / "tiny"), "--insecure"]) == ExitCode.REGISTRY_UNAVAILABLE
