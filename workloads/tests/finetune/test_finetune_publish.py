"""Whole runs that publish to a real registry, or can't."""

from pathlib import Path

from oci_registry import oci_registry
from tuning import a_run, failure, finish, questions, save_model, save_rows

from lmforge_api.run import ExitCode


def test_a_model_that_could_not_be_published_is_kept_and_published_by_the_next_attempt(tmp_path: Path) -> None:
    model, rows = save_model(tmp_path / "model"), save_rows(tmp_path / "rows.jsonl", questions())
    with oci_registry(tmp_path / "registry") as gone:
        address = gone.address
    to = {"publish": {"uri": f"oci://{address}/models/tiny:1", "insecure": True}}
    first = a_run(tmp_path / "run", model=model, rows=rows, steps=2, output=to)
    code, message = failure(first)
    assert code == ExitCode.REGISTRY_UNAVAILABLE
    assert message.startswith(f"the artifact is complete at {tmp_path}/run/artifact, but can't be published: registry")
    weights = (tmp_path / "run/artifact/model.safetensors").stat().st_mtime_ns
    with oci_registry(tmp_path / "registry", at=address) as registry:
        report = finish(a_run(tmp_path / "run", model=model, rows=rows, steps=2, output=to, attempt=2))
        assert registry.tags("models/tiny") == ["1"]
    assert report.fine_tune is not None
    assert report.fine_tune.published is not None
    assert report.fine_tune.published.uri == f"oci://{address}/models/tiny:1"
    assert (tmp_path / "run/artifact/model.safetensors").stat().st_mtime_ns == weights


def test_a_login_that_is_refused_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    model, rows = save_model(tmp_path / "model"), save_rows(tmp_path / "rows.jsonl", questions())
    with oci_registry(tmp_path / "registry", login=True) as registry:
        secret = registry.secret(tmp_path / "secret", password="wrong-one")
        to = {"uri": f"oci://{registry.address}/models/tiny:1", "insecure": True, "secret": "registry-login"}
        run = a_run(tmp_path / "run", model=model, rows=rows, output={"publish": to})
        code, message = failure(run.model_copy(update={"login_path": str(secret)}))
    assert code == ExitCode.USER_ERROR
    assert f"registry {registry.address} refuses the login of Secret registry-login" in message
    assert not list((tmp_path / "run").glob("checkpoint*"))
