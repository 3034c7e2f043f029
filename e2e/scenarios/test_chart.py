"""As the one who runs the cluster I install, upgrade and uninstall LMForge without harm to anybody's work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from e2e.cluster.errors import CommandFailed
from e2e.lmforge import RELEASE, SYSTEM_NAMESPACE, Kube, Manifest, ensure_namespace, install

pytestmark = pytest.mark.cluster

OPERATOR = "app.kubernetes.io/name=lmforge,app.kubernetes.io/component=operator"
USERS = "t-chart"


@pytest.fixture(scope="module", autouse=True)
def fresh(lmforge: Kube, images: Mapping[str, str]) -> None:
    """A new installation: what was there may have lost a node since, and with it its even spread."""
    lmforge.helm("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--ignore-not-found", "--wait")
    install(lmforge, images)


@pytest.fixture
def system(lmforge: Kube, images: Mapping[str, str]) -> Iterator[Kube]:
    """The operator's namespace. However the test ends, LMForge is installed again for those that follow."""
    yield lmforge.within(SYSTEM_NAMESPACE)
    install(lmforge, images)


@pytest.fixture
def users(lmforge: Kube) -> Iterator[Kube]:
    """A user's namespace, with a run that waits for its text."""
    inside = ensure_namespace(lmforge, USERS)
    spec = {"model": {"init": {}}, "dataset": {"uri": "pvc://not-there-yet/text"}}
    inside.apply(
        {"apiVersion": "lmforge.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "waiting"}, "spec": spec}
    )
    yield inside
    lmforge("delete", "namespace", USERS, "--ignore-not-found", "--timeout=60s")


def eventually(reached: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


def looks_after(users: Kube) -> bool:
    """Whether an operator has said what the run waits for."""
    return "not-there-yet" in users.status("tj/waiting").get("message", "")


def operators(system: Kube) -> list[Manifest]:
    """The operator's pods, but for those that are on their way out."""
    return [pod for pod in system.items("pods", "-l", OPERATOR) if "deletionTimestamp" not in pod["metadata"]]


def settings_hash(pod: Manifest) -> str:
    """What it was started with."""
    return str(pod["metadata"]["annotations"]["lmforge.dev/settings-hash"])


def exists(kube: Kube, reference: str) -> bool:
    try:
        kube("get", reference)
    except CommandFailed:
        return False
    return True


def test_installed_it_runs_twice_on_two_nodes_and_answers(system: Kube, users: Kube) -> None:
    pods = operators(system)
    assert len(pods) == len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert all(status["ready"] for pod in pods for status in pod["status"]["containerStatuses"])
    services = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services"
    assert "lmforge_" in system("get", "--raw", f"{services}/{RELEASE}-metrics:8080/proxy/metrics")
    with pytest.raises(CommandFailed, match=r"could not find the requested resource|NotFound|404"):
        system("get", "--raw", f"{services}/https:{RELEASE}-reports:8443/proxy/nothing-here")
    eventually(lambda: looks_after(users), "the waiting run's message")


def test_an_upgrade_changes_what_is_asked_and_keeps_the_certificate(
    system: Kube, users: Kube, images: Mapping[str, str]
) -> None:
    secret = f"secret/{RELEASE}-reports-tls"
    before = system.get(secret)["data"]
    (former,) = {settings_hash(pod) for pod in operators(system)}
    install(system, images, values=["settings.logLevel=DEBUG"])
    assert system.get(secret)["data"] == before
    wanted = settings_hash(system.get(f"deployment/{RELEASE}-operator")["spec"]["template"])
    assert wanted != former
    assert {settings_hash(pod) for pod in operators(system)} == {wanted}
    eventually(lambda: looks_after(users), "the waiting run's message")


def test_uninstalling_leaves_users_their_objects_and_no_namespace_stuck(
    system: Kube, users: Kube, images: Mapping[str, str]
) -> None:
    eventually(lambda: looks_after(users), "the waiting run's message")
    system.helm("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "120s")
    assert not exists(system, f"deployment/{RELEASE}-operator")
    assert exists(users, "tj/waiting")
    assert users.get("tj/waiting")["metadata"].get("finalizers") is None

    system("delete", "namespace", SYSTEM_NAMESPACE, "--timeout=90s")
    install(system, images)
    users("patch", "tj/waiting", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    eventually(
        lambda: users.status("tj/waiting").get("observedGeneration") == 2, "the new operator's look at the old run"
    )

    system.helm("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE, "--wait", "--timeout", "120s")
    system("delete", "namespace", USERS, "--timeout=90s")
