"""As the one who trains I read in status what is wrong, within 10 s, do what it says, and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from e2e.jobs import STORE_CLAIM, Run, assert_nothing_lost_or_doubled, in_store, little
from e2e.lmforge import Kube, Manifest, ensure_namespace, plugin

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TRUTH = 10.0


def patch(run: Run, spec: Manifest) -> None:
    """What a user changes."""
    run.kube("patch", run.reference, "--type=merge", "-p", json.dumps({"spec": spec}))


def says(run: Run, reason: str, *words: str, seconds: float = TRUTH) -> Manifest:
    """Waits until status gives this reason, in these words."""

    def told(status: Manifest) -> bool:
        told = f"{status.get('reason')} {status.get('message')} {status.get('attempts')}"
        return reason in told and all(word in told for word in words)

    return run.kube.wait(run.reference, told, what=f"{reason}: {', '.join(words)}", seconds=seconds)


def test_an_image_that_does_not_exist_is_named_and_correcting_it_is_enough(
    kube: Kube, images: Mapping[str, str]
) -> None:
    wrong = f"{images['train'].rsplit(':', 1)[0]}:no-such-tag"
    run = Run(kube, "image")
    kube.apply(little("image", template={"image": wrong}))
    status = says(run, "ImagePullFailed", wrong, "template.image")
    assert status["phase"] == "Pending"
    patch(run, {"template": {"image": None}})
    status = run.wait_succeeded()
    assert_nothing_lost_or_doubled(run, status)


def test_a_pod_that_needs_more_memory_is_named_and_giving_it_more_is_enough(kube: Kube) -> None:
    run = Run(kube, "memory")
    kube.apply(little("memory", resources={"cpu": "50m", "memory": "150Mi", "sharedMemory": "64Mi"}))
    status = kube.wait_phase(run.reference, "Failed", seconds=90)
    says(run, "OutOfMemory", "137", "raise resources.memory", seconds=1)
    assert status["phase"] == "Failed"
    patch(run, {"resources": {"memory": "2Gi"}})
    kube.wait(run.reference, lambda s: s.get("phase") == "Succeeded", what="success", seconds=90)


@pytest.fixture
def small_store(lmforge: Kube, kube: Kube, documents: object) -> Iterator[Kube]:
    """A namespace whose store holds 64 MiB."""
    name = "t-small-store"
    lmforge("delete", "namespace", name, "--ignore-not-found", "--timeout=120s")
    inside = ensure_namespace(lmforge, name)
    plugin(inside, "put", f"{documents}/little", "pvc://corpus/little", "--create", "64Mi")
    wanted = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "small",
        "resources": {"requests": {"storage": "64Mi"}},
    }
    inside.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": STORE_CLAIM}, "spec": wanted}
    )
    yield inside
    lmforge("delete", "namespace", name, "--wait=false")


def test_a_full_store_is_named_and_freeing_space_is_enough(small_store: Kube) -> None:
    small_store.apply(little("full", steps=600, checkpoint={"everySteps": 50}))
    run = Run(small_store, "full")
    run.wait_checkpoint()
    in_store(small_store, "dd if=/dev/zero of=filler bs=64k 2>/dev/null || true")
    says(run, "StoreFull", "no space is left", seconds=20)
    half = in_store(small_store, f"for d in {run.store}/checkpoints/step-*; do ls $d/manifest.json; done")
    assert half.count("manifest.json") >= 1
    in_store(small_store, "rm filler")
    status = run.wait_succeeded()
    assert_nothing_lost_or_doubled(run, status)
