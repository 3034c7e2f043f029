"""Informers on a real API server: what they see, and what they make up for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from apiserver import ApiServer
from real_api import config_map, eventually, new_namespace, open_kube, training_job

from lmforge_operator.errors import NotFound
from lmforge_operator.kube import projections
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.informer import Informer
from lmforge_operator.kube.resources import CONFIG_MAPS, TRAINING_JOBS, Resource
from lmforge_operator.labels import OWNER_UID
from lmforge_operator.manifests import Manifest

pytestmark = pytest.mark.integration


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return new_namespace(api_server, "informer")


class Watched:
    """An informer of the namespace's ConfigMaps, and what it called out."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.changes: list[str] = []
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.informer = Informer(
            kube,
            CONFIG_MAPS,
            project=projections.only_metadata,
            selector=OWNER_UID,
            namespaces=[namespace],
            on_change=self._changed,
            metadata_only=True,
            page=2,
            sleep=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.may_connect.wait()

    def _changed(self, manifest: Manifest) -> None:
        self.changes.append(manifest["metadata"]["name"])


@asynccontextmanager
async def watched(api_server: ApiServer, namespace: str) -> AsyncIterator[Watched]:
    async with open_kube(api_server) as kube:
        world = Watched(kube, namespace)
        task = asyncio.create_task(world.informer.run())
        try:
            await asyncio.wait_for(world.informer.wait_synced(), 10)
            yield world
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_lists_in_pages_and_follows(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as others:
        for number in range(5):
            await others.create(CONFIG_MAPS, config_map(namespace, f"c{number}", owner="o"))
        async with watched(api_server, namespace) as world:
            assert len(world.informer.owned_by("o")) == 5
            await others.create(CONFIG_MAPS, config_map(namespace, "late", owner="o"))
            await eventually(lambda: world.informer.get(namespace, "late"))
            await others.delete(CONFIG_MAPS, namespace, "c0")
            await eventually(lambda: world.informer.get(namespace, "c0") is None)
            assert world.changes[-2:] == ["late", "c0"]


async def test_it_sees_only_what_its_selector_matches(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as others, watched(api_server, namespace) as world:
        await others.create(CONFIG_MAPS, config_map(namespace, "stranger"))
        await others.create(CONFIG_MAPS, config_map(namespace, "ours", owner="o"))
        await eventually(lambda: world.changes)
        assert world.changes == ["ours"]


async def test_its_own_clients_write_is_there_at_once_and_its_echo_is_no_news(
    api_server: ApiServer, namespace: str
) -> None:
    async with open_kube(api_server) as others, watched(api_server, namespace) as world:
        await world.kube.create(CONFIG_MAPS, config_map(namespace, "mine", owner="o"))
        assert world.informer.get(namespace, "mine") is not None
        world.changes.clear()  # the watch may have been faster than the answer
        await others.create(CONFIG_MAPS, config_map(namespace, "theirs", owner="o"))
        await eventually(lambda: world.informer.get(namespace, "theirs"))
        assert world.changes == ["theirs"]


async def test_a_spec_that_its_own_clients_answer_shows_first_is_news(api_server: ApiServer, namespace: str) -> None:
    """The watch may tell of it later than the answer does, and is believed to bring nothing new then."""
    changes: list[Manifest] = []
    async with open_kube(api_server) as others, open_kube(api_server) as kube:
        informer = Informer(kube, TRAINING_JOBS, project=projections.custom_resource, on_change=changes.append)
        known = await others.create(TRAINING_JOBS, training_job(namespace))
        assert known is not None
        informer.cache.put(known)
        uid = known["metadata"]["uid"]
        await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": "Starting"}, uid=uid)
        assert changes == []
        await others.apply(TRAINING_JOBS, training_job(namespace, suspend=True))
        await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": "Running"}, uid=uid)
        assert [manifest["spec"]["suspend"] for manifest in changes] == [True]


async def test_a_change_of_what_is_not_kept_wakes_nobody(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as others, watched(api_server, namespace) as world:
        await others.create(CONFIG_MAPS, config_map(namespace, "a", owner="o"))
        await others.apply(CONFIG_MAPS, config_map(namespace, "a", owner="o", data={"x": "1"}))
        await others.create(CONFIG_MAPS, config_map(namespace, "b", owner="o"))
        await eventually(lambda: world.informer.get(namespace, "b"))
        assert world.changes == ["a", "b"]


async def test_it_goes_on_after_its_connections_broke(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as others, watched(api_server, namespace) as world:
        api_server.control_plane.kill("kube-apiserver")
        api_server.control_plane.start()  # in this thread: it dies with the thread that starts it
        await others.create(CONFIG_MAPS, config_map(namespace, "after", owner="o"))
        await eventually(lambda: world.informer.get(namespace, "after"), seconds=60)
        assert world.informer.silence() < 10


async def test_a_relist_makes_up_for_deletions_that_nobody_saw(api_server: ApiServer, namespace: str) -> None:
    """A new API server remembers no events: the informer's version is too old for it (410)."""
    async with open_kube(api_server) as others, watched(api_server, namespace) as world:
        for name in ("stays", "goes", "changes"):
            await others.create(CONFIG_MAPS, config_map(namespace, name, owner="o"))
        await eventually(lambda: len(world.informer.owned_by("o")) == 3)
        world.changes.clear()
        world.may_connect.clear()
        api_server.control_plane.kill("kube-apiserver")
        api_server.control_plane.start()  # in this thread: it dies with the thread that starts it
        await others.delete(CONFIG_MAPS, namespace, "goes")
        await others.create(CONFIG_MAPS, config_map(namespace, "new", owner="o"))
        changed = config_map(namespace, "changes", owner="o")
        changed["metadata"]["labels"]["lmforge.dev/another"] = "label"
        await others.apply(CONFIG_MAPS, changed)
        assert world.changes == []
        world.may_connect.set()
        await eventually(lambda: world.informer.get(namespace, "goes") is None, seconds=60)
        await eventually(lambda: world.informer.get(namespace, "new"))
        assert sorted(world.changes) == ["changes", "goes", "new"]
        assert [child["metadata"]["name"] for child in world.informer.owned_by("o")] == ["changes", "new", "stays"]


async def test_a_watch_that_is_opened_anew_counts_as_heard_of_though_nothing_happens(
    api_server: ApiServer, namespace: str
) -> None:
    """A quiet resource's bookmarks may be further apart than the patience with a watch."""
    connections = 0

    async def pause(seconds: float) -> None:
        nonlocal connections
        connections += 1

    async with open_kube(api_server) as whole:
        impatient = Kube(whole.transport, watch_silence_seconds=0.2)
        informer = Informer(
            impatient, CONFIG_MAPS, project=projections.only_metadata, namespaces=[namespace], sleep=pause
        )
        task = asyncio.create_task(informer.run())
        try:
            await asyncio.wait_for(informer.wait_synced(), 10)
            synced = asyncio.get_running_loop().time()
            await eventually(lambda: connections >= 3)
            assert informer.silence() < asyncio.get_running_loop().time() - synced - 0.2
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


THINGS = Resource("test.lmforge.dev", "v1", "things", "Thing")


def definition(resource: Resource) -> Manifest:
    """A CRD whose objects may have any fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": resource.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": resource.plural, "kind": resource.kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def test_a_resource_that_may_be_missing_has_no_objects_until_somebody_installs_it(
    api_server: ApiServer, namespace: str
) -> None:
    turn = asyncio.Event()

    async def pause(seconds: float) -> None:
        await turn.wait()

    async with open_kube(api_server) as others, open_kube(api_server) as kube:
        informer = Informer(
            kube, THINGS, project=projections.only_metadata, namespaces=[namespace], optional=True, sleep=pause
        )
        task = asyncio.create_task(informer.run())
        try:
            await asyncio.wait_for(informer.wait_synced(), 10)
            api_server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(THINGS))
            thing = {
                "apiVersion": THINGS.api_version,
                "kind": "Thing",
                "metadata": {"name": "a", "namespace": namespace},
            }

            async def created() -> bool:
                try:
                    return await others.create(THINGS, thing) is not None
                except NotFound:
                    return False

            await eventually(created)
            turn.set()
            await eventually(lambda: informer.get(namespace, "a"))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
