"""The settings file: what is refused, and with which sentence."""

from pathlib import Path

import pytest

from lmforge_operator.errors import SettingsError
from lmforge_operator.settings import Settings, load


def test_everything_has_a_default() -> None:
    assert load(None) == Settings()


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("store: {claimName: other}\nlogLevel: DEBUG\n")
    (tmp_path / "s.json").write_text('{"store": {"claimName": "other"}, "logLevel": "DEBUG"}')
    assert load(tmp_path / "s.yaml") == load(tmp_path / "s.json")
    assert load(tmp_path / "s.yaml").store.claim_name == "other"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("")
    assert load(tmp_path / "s.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("queue: {workers: 0}", "queue.workers"),
        ("imagez: {}", "imagez"),
        ("store: {mountPath: relative}", "store.mountPath"),
        ("leaderElection: {leaseSeconds: 2}", "renewSeconds < deadlineSeconds < leaseSeconds"),
        ("reports: {serviceUrl: 'http://plain'}", "reports.serviceUrl"),
        ("a: [", "neither YAML nor JSON"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SettingsError, match=sentence):
        load(tmp_path / "s.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml can't be read: No such file"):
        load(tmp_path / "none.yaml")
