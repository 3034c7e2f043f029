"""Artifacts go to a real OCI registry and come back the same, or nobody sees them there."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from oci_registry import PASSWORD, OciRegistry, oci_registry

from lmforge_api.artifact import Manifest
from lmforge_api.oci import Reference
from lmforge_api.registry import RegistryAccess
from lmforge_workloads.common import artifact, modelpack
from lmforge_workloads.common.exits import DataError, RegistryUnavailable, UserError
from lmforge_workloads.common.registry import Registry, opened
from lmforge_workloads.common.registry_login import Login, read_login

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 1200,
    "README.md": b"# tiny",
    "tensorboard/events": b"",
    "training.json": json.dumps(
        {"inputs": [{"name": "model", "uri": "pvc://models/base", "digest": "sha256:bb"}]}
    ).encode(),
}
NO_LOGIN = RegistryAccess(insecure=True)
SECRET = RegistryAccess(secret="registry-login", insecure=True)


def an_artifact(directory: Path) -> Manifest:
    with artifact.writing(directory, kind="model", created_by="FineTune/ml/chat attempt 1") as staged:
        for name, content in FILES.items():
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_bytes(content)
    manifest = artifact.read_manifest(directory)
    assert manifest is not None
    return manifest


def digest_of(directory: Path) -> str:
    manifest = artifact.read_manifest(directory)
    assert manifest is not None
    return manifest.digest


def tiny(registry: OciRegistry, **version: str) -> Reference:
    return Reference(registry.address, "models/tiny", **(version or {"tag": "1"}))


def pushed(
    registry: OciRegistry, directory: Path, *, access: RegistryAccess = NO_LOGIN, login: Login | None = None
) -> str:
    with opened(tiny(registry), access, login=login) as client:
        return modelpack.push(client, directory, an_artifact(directory))


def test_what_is_pushed_comes_back_the_same_by_its_tag_and_by_its_digest(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        digest = pushed(registry, tmp_path / "model")
        for name, reference in (("tag", tiny(registry)), ("digest", tiny(registry, digest=digest))):
            into = artifact.writing(tmp_path / name, kind="model", created_by="tests")
            with opened(reference, NO_LOGIN, login=None) as client, into as staged:
                pinned = modelpack.pull(client, staged)
            assert (pinned, digest_of(tmp_path / name)) == (digest, digest_of(tmp_path / "model"))


def test_the_oci_manifest_is_modelpacks_and_says_what_the_model_was_made_from(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        pushed(registry, tmp_path / "model")
        with opened(tiny(registry), NO_LOGIN, login=None) as client:
            manifest = json.loads(client.manifest()[0])
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    kinds = {each["annotations"]["org.cncf.model.filepath"]: each["mediaType"] for each in manifest["layers"]}
    assert kinds["model.safetensors"] == "application/vnd.cncf.model.weight.v1.raw"
    assert kinds["config.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    assert kinds["README.md"] == "application/vnd.cncf.model.doc.v1.raw"
    assert manifest["annotations"]["dev.lmforge/input.model"] == "pvc://models/base sha256:bb"


def test_a_second_push_sends_no_blob_and_gives_the_same_digest(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        first = pushed(registry, tmp_path / "model")
        uploads = registry.sent("POST")
        assert pushed(registry, tmp_path / "again") == first
        assert (uploads > 0, registry.sent("POST")) == (True, uploads)


class _Killed(Registry):
    """Dies where the next thing would be the tag."""

    def tag(self, manifest: bytes) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


def _push_and_die(reference: Reference, directory: Path) -> None:
    modelpack.push(_Killed(reference, NO_LOGIN, login=None), directory, an_artifact(directory))


def test_a_push_that_is_killed_leaves_no_tag_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_push_and_die, args=(tiny(registry), tmp_path / "model"))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert registry.tags("models/tiny") == []
        uploads = registry.sent("POST")
        assert uploads > 0
        pushed(registry, tmp_path / "again")
        assert (registry.sent("POST"), registry.tags("models/tiny")) == (uploads, ["1"])


def test_a_file_that_was_damaged_in_the_store_gets_no_tag(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        manifest = an_artifact(tmp_path / "model")
        (tmp_path / "model/model.safetensors").write_bytes(b"damaged")
        with opened(tiny(registry), NO_LOGIN, login=None) as client, pytest.raises(UserError, match="takes no PUT"):
            modelpack.push(client, tmp_path / "model", manifest)
        assert registry.tags("models/tiny") == []


def test_the_secrets_login_opens_a_registry_that_asks_for_one(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry", login=True) as registry:
        login = read_login(registry.address, SECRET, mounted=registry.secret(tmp_path / "secret"))
        pushed(registry, tmp_path / "model", access=SECRET, login=login)
        assert registry.tags("models/tiny") == ["1"]
    assert PASSWORD not in repr(login)


def test_a_wrong_password_is_said_with_the_secret_and_the_registry_and_nothing_secret(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry", login=True) as registry:
        login = read_login(registry.address, SECRET, mounted=registry.secret(tmp_path / "s", password="wrong-one"))
        with opened(tiny(registry), SECRET, login=login) as client, pytest.raises(UserError) as refused:
            client.may_push()
        with opened(tiny(registry), NO_LOGIN, login=None) as client, pytest.raises(UserError, match="name a Secret"):
            client.may_push()
    assert str(refused.value) == (
        f"registry {registry.address} refuses the login of Secret registry-login at models/tiny (401): "
        "correct the Secret's user name and password, or give that user the right to it"
    )


def test_a_secret_that_is_missing_or_for_another_registry_is_said(tmp_path: Path) -> None:
    other = OciRegistry(tmp_path, "other.example.org").secret(tmp_path / "other")
    with pytest.raises(UserError, match="no user name and password for registry r:5, only an entry for other"):
        read_login("r:5", SECRET, mounted=other)
    with pytest.raises(UserError, match="Secret registry-login isn't in this namespace"):
        read_login("r:5", SECRET, mounted=tmp_path / "nothing")


def test_plain_http_is_spoken_only_where_the_spec_says_so(tmp_path: Path) -> None:
    with oci_registry(tmp_path / "registry") as registry:
        refused = pytest.raises(RegistryUnavailable, match="plain http needs insecure: true")
        with opened(tiny(registry), RegistryAccess(), login=None) as client, refused:
            client.may_push()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../evil"])
def test_a_layer_cannot_be_written_outside_the_models_directory(tmp_path: Path, name: str) -> None:
    layer = {"mediaType": "application/octet-stream", "annotations": {"org.opencontainers.image.title": name}}
    with oci_registry(tmp_path / "registry") as registry:
        pushed(registry, tmp_path / "model")
        with opened(tiny(registry), NO_LOGIN, login=None) as client:
            manifest = json.loads(client.manifest()[0])
            manifest["layers"] = [manifest["layers"][0] | layer]
            client.tag(json.dumps(manifest).encode())
            with pytest.raises(DataError, match="outside the model's directory"):
                modelpack.pull(client, tmp_path / "out")
