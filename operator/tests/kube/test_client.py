"""The client's operations on a real API server."""

import pytest
from apiserver import ApiServer
from real_api import config_map, new_namespace, open_kube, training_job

from lmforge_operator.errors import Forbidden, Invalid, LeadershipLost, NotFound, Transient
from lmforge_operator.kube.connection import Connection, connect
from lmforge_operator.kube.resources import CONFIG_MAPS, TRAINING_JOBS, Resource
from lmforge_operator.kube.transport import Transport
from lmforge_operator.manifests import Manifest

pytestmark = pytest.mark.integration


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return new_namespace(api_server, "client")


async def test_creating_what_exists_gives_none(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        assert await kube.create(CONFIG_MAPS, config_map(namespace, "a")) is not None
        assert await kube.create(CONFIG_MAPS, config_map(namespace, "a")) is None


async def test_apply_leaves_the_fields_of_others(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        await kube.apply(CONFIG_MAPS, config_map(namespace, "a", data={"ours": "1"}))
        api_server.kubectl("patch", "cm", "a", "-n", namespace, "--type=merge", "-p", '{"data":{"theirs":"2"}}')
        applied = await kube.apply(CONFIG_MAPS, config_map(namespace, "a", data={"ours": "3"}))
    assert applied["data"] == {"ours": "3", "theirs": "2"}


async def test_getting_what_is_not_there_gives_none(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        assert await kube.get(CONFIG_MAPS, namespace, "none") is None


async def test_deleting_names_the_object_and_not_its_successor(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        first = await kube.create(CONFIG_MAPS, config_map(namespace, "a"))
        assert first is not None
        uid = first["metadata"]["uid"]
        assert await kube.delete(CONFIG_MAPS, namespace, "a", uid=uid)
        await kube.create(CONFIG_MAPS, config_map(namespace, "a"))
        assert not await kube.delete(CONFIG_MAPS, namespace, "a", uid=uid)
        assert await kube.delete(CONFIG_MAPS, namespace, "a")
        assert not await kube.delete(CONFIG_MAPS, namespace, "a")


async def test_a_status_is_replaced_as_a_whole(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        made = await kube.create(TRAINING_JOBS, training_job(namespace))
        assert made is not None
        uid = made["metadata"]["uid"]
        await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": "Pending", "reason": "Why"}, uid=uid)
        written = await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": "Running"}, uid=uid)
    assert written is not None
    assert written["status"]["phase"] == "Running"
    assert "reason" not in written["status"]


async def test_a_users_edit_in_between_is_no_conflict(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        made = await kube.create(TRAINING_JOBS, training_job(namespace))
        assert made is not None
        api_server.kubectl("patch", "tj", "tiny", "-n", namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}')
        written = await kube.write_status(
            TRAINING_JOBS, namespace, "tiny", {"phase": "Pending"}, uid=made["metadata"]["uid"]
        )
    assert written is not None
    assert written["spec"]["suspend"] is True


async def test_a_status_is_not_written_to_another_object_of_the_same_name(
    api_server: ApiServer, namespace: str
) -> None:
    async with open_kube(api_server) as kube:
        await kube.create(TRAINING_JOBS, training_job(namespace))
        assert await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": "Failed"}, uid="another") is None
        assert await kube.write_status(TRAINING_JOBS, namespace, "gone", {"phase": "Failed"}, uid="another") is None
        current = await kube.get(TRAINING_JOBS, namespace, "tiny")
    assert current is not None
    assert current.get("status", {}).get("phase") is None


async def test_a_status_that_the_schema_refuses_is_the_callers_error(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        made = await kube.create(TRAINING_JOBS, training_job(namespace))
        assert made is not None
        with pytest.raises(Invalid, match="phase"):
            await kube.write_status(TRAINING_JOBS, namespace, "tiny", {"phase": 7}, uid=made["metadata"]["uid"])


async def test_collections_come_in_pages(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        for number in range(7):
            await kube.create(CONFIG_MAPS, config_map(namespace, f"c{number}", owner="o" if number else ""))
        pages = [
            page async for page in kube.pages(CONFIG_MAPS, namespace=namespace, selector="lmforge.dev/kind", page=4)
        ]
    assert [len(page.items) for page in pages] == [4, 2]
    assert len({page.version for page in pages}) == 1


async def test_metadata_comes_without_the_rest(api_server: ApiServer, namespace: str) -> None:
    async with open_kube(api_server) as kube:
        await kube.create(CONFIG_MAPS, config_map(namespace, "a", data={"big": "x" * 1000}))
        [page] = [page async for page in kube.pages(CONFIG_MAPS, namespace=namespace, metadata_only=True)]
    assert "data" not in page.items[0]


async def test_what_a_write_returns_reaches_the_caches(api_server: ApiServer, namespace: str) -> None:
    written: list[tuple[Resource, Manifest]] = []
    async with open_kube(api_server) as kube:
        kube.on_write(lambda resource, manifest: written.append((resource, manifest)))
        await kube.create(CONFIG_MAPS, config_map(namespace, "a"))
    assert [(resource.plural, manifest["metadata"]["name"]) for resource, manifest in written] == [("configmaps", "a")]


async def test_behind_a_fence_nothing_is_written(api_server: ApiServer, namespace: str) -> None:
    def fence() -> None:
        raise LeadershipLost("not the leader")

    async with open_kube(api_server, fence=fence) as kube:
        with pytest.raises(LeadershipLost):
            await kube.create(CONFIG_MAPS, config_map(namespace, "a"))
        with pytest.raises(LeadershipLost):
            await kube.delete(CONFIG_MAPS, namespace, "a")
        assert await kube.get(CONFIG_MAPS, namespace, "a") is None


async def test_errors_are_told_apart(api_server: ApiServer, namespace: str) -> None:
    stranger = connect(str(api_server.control_plane.kubeconfig_for("stranger")))
    async with open_kube(api_server) as kube:
        with pytest.raises(NotFound):
            await kube.create(CONFIG_MAPS, config_map("no-such-namespace", "a"))
        with pytest.raises(Invalid):
            await kube.create(CONFIG_MAPS, config_map(namespace, "Not A Name"))
    async with Transport(stranger) as transport:
        with pytest.raises(Forbidden, match="stranger"):
            await transport.send("GET", CONFIG_MAPS.path(namespace))


async def test_a_server_that_does_not_answer_is_a_passing_trouble(api_server: ApiServer) -> None:
    nobody = Connection(connect(str(api_server.kubeconfig)).info.__class__(server="https://127.0.0.1:1"))
    async with Transport(nobody) as transport:
        with pytest.raises(Transient):
            await transport.send("GET", "/version")
