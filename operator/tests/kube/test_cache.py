"""The cache: what counts as news, and who owns what."""

from typing import Any

import pytest

from lmforge_operator.kube import projections
from lmforge_operator.kube.cache import Cache
from lmforge_operator.labels import KUEUE_JOB, OWNER_UID
from lmforge_operator.manifests import Manifest


def job(name: str = "a", *, version: int, uid: str = "u1", owner: str = "", **status: Any) -> Manifest:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {OWNER_UID: owner} if owner else {},
        "managedFields": [{"manager": f"somebody at {version}"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    return {
        "metadata": metadata,
        "spec": {"parallelism": 2, "template": {"spec": {}}},
        "status": {"active": version} | status,
    }


@pytest.fixture
def cache() -> Cache:
    return Cache(projections.job)


def test_only_the_projected_fields_are_kept(cache: Cache) -> None:
    cache.put(job(version=1))
    kept = cache.get("ns", "a")
    assert kept is not None
    assert kept["status"] == {"conditions": []}
    assert set(kept["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "labels"}


def test_a_change_of_what_is_not_kept_is_no_news(cache: Cache) -> None:
    assert cache.put(job(version=1))
    assert not cache.put(job(version=2))
    kept = cache.get("ns", "a")
    assert kept is not None
    assert kept["metadata"]["resourceVersion"] == "2"


def test_a_change_of_what_is_kept_is_news(cache: Cache) -> None:
    cache.put(job(version=1))
    assert cache.put(job(version=2, failed=1))


def test_an_older_version_changes_nothing(cache: Cache) -> None:
    cache.put(job(version=5, failed=1))
    assert not cache.put(job(version=4, failed=2))


def test_another_object_of_the_same_name_is_news_whatever_its_version(cache: Cache) -> None:
    cache.put(job(version=5, uid="u1"))
    assert cache.put(job(version=4, uid="u2"))


def test_the_echo_of_our_own_write_is_no_news(cache: Cache) -> None:
    cache.put_written(job(version=7, failed=1))
    assert not cache.put(job(version=7, failed=1))


def test_a_write_that_the_watch_has_passed_brings_nothing_back(cache: Cache) -> None:
    cache.mark_seen("", 9)
    cache.put_written(job(version=7))
    assert cache.get("ns", "a") is None


def test_the_watch_of_a_namespace_says_nothing_of_others(cache: Cache) -> None:
    cache.mark_seen("other", 9)
    cache.put_written(job(version=7))
    assert cache.get("ns", "a") is not None


def test_children_are_found_by_their_owners_uid(cache: Cache) -> None:
    cache.put(job("b", version=1, uid="1", owner="o"))
    cache.put(job("a", version=2, uid="2", owner="o"))
    cache.put(job("c", version=3, uid="3", owner="other"))
    assert [child["metadata"]["name"] for child in cache.owned_by("o")] == ["a", "b"]


def test_a_removed_child_is_owned_no_more(cache: Cache) -> None:
    cache.put(job(version=1, owner="o"))
    assert cache.remove("ns", "a", uid="u1")
    assert cache.owned_by("o") == []
    assert len(cache) == 0


def test_removing_a_former_object_of_the_same_name_leaves_the_new_one(cache: Cache) -> None:
    cache.put(job(version=2, uid="u2"))
    assert not cache.remove("ns", "a", uid="u1")
    assert cache.get("ns", "a") is not None


def test_objects_are_counted_by_phase() -> None:
    cache = Cache(projections.custom_resource, grouped=projections.phase)
    cache.put(job("a", version=1, uid="1", phase="Running"))
    cache.put(job("b", version=2, uid="2", phase="Running"))
    cache.put(job("c", version=3, uid="3"))
    cache.put(job("a", version=4, uid="1", phase="Succeeded"))
    cache.remove("ns", "b")
    assert cache.counts() == {"Succeeded": 1, "Pending": 1}


def test_a_workload_of_kueues_is_found_by_its_jobs_uid() -> None:
    cache = Cache(projections.workload, owner_label=KUEUE_JOB)
    metadata = {"name": "job-a", "namespace": "ns", "uid": "w1", "resourceVersion": "1", "labels": {KUEUE_JOB: "u1"}}
    owners = [{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "u1", "controller": True}]
    conditions = [
        {"type": "QuotaReserved", "status": "False", "message": "no"},
        {"type": "PodsReady", "status": "False"},
    ]
    cache.put(
        {
            "metadata": metadata | {"ownerReferences": owners},
            "spec": {"active": True, "podSets": [{}]},
            "status": {"conditions": conditions},
        }
    )
    (kept,) = cache.owned_by("u1")
    assert kept["metadata"]["ownerReferences"] == [{"kind": "Job", "name": "a"}]
    assert kept["spec"] == {"active": True}
    assert kept["status"]["conditions"] == conditions[:1]
