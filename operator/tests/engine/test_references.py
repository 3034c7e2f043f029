"""Who is woken by whom."""

from typing import Any

from lmforge_operator.engine.references import References, references
from lmforge_operator.kube.resources import Key
from lmforge_operator.manifests import Manifest


def manifest(**spec: Any) -> Manifest:
    return {"metadata": {"namespace": "ns", "name": "a"}, "spec": spec}


ME = Key("TrainingJob", "ns", "a")
BASE = Key("TrainingJob", "ns", "base")
CLAIM = Key("PersistentVolumeClaim", "ns", "corpus")


def test_references_are_found_at_any_depth() -> None:
    found = references(
        manifest(
            model={"from": {"kind": "TrainingJob", "name": "base"}},
            dataset={"uri": "pvc://corpus/text", "tokenizer": {"uri": "hf://org/name"}},
            evaluation={"dataset": {"from": {"kind": "Dataset", "name": "held-out"}}},
        )
    )
    assert found == {BASE, CLAIM, Key("Dataset", "ns", "held-out")}


def test_a_spec_without_references_has_none() -> None:
    assert references(manifest(model={"uri": "s3://bucket/model"}, steps=3)) == frozenset()


def test_dependents_are_those_that_name_it() -> None:
    index = References()
    index.update(ME, manifest(model={"from": {"kind": "TrainingJob", "name": "base"}}))
    assert index.dependents(BASE) == {ME}
    assert index.dependents(CLAIM) == frozenset()


def test_a_changed_or_deleted_object_is_taken_out() -> None:
    index = References()
    index.update(ME, manifest(model={"from": {"kind": "TrainingJob", "name": "base"}}))
    index.update(ME, manifest(dataset={"uri": "pvc://corpus/text"}))
    assert index.dependents(BASE) == frozenset()
    assert index.dependents(CLAIM) == {ME}
    index.update(ME, None)
    assert index.dependents(CLAIM) == frozenset()
    assert index._naming == {}
