"""The loop on a real API server, with a toy kind's story in the place of the real one: what each outcome leads to."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from apiserver import ApiServer
from real_api import Manifest, config_map, eventually, new_namespace, open_kube, training_job

from lmforge_operator.engine.context import Context
from lmforge_operator.engine.objects import Objects
from lmforge_operator.engine.runtime import Runtime
from lmforge_operator.errors import Conflict, UserError
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.connection import connect
from lmforge_operator.kube.lease import Identity
from lmforge_operator.kube.resources import CONFIG_MAPS, LEASES, TRAINING_JOBS, Key
from lmforge_operator.settings import LeaderElection, Queue, Reports, Settings

pytestmark = pytest.mark.integration

Story = Callable[[Context, Manifest], Awaitable[float | None]]


class World:
    """A replica without kopf, and a client of its own: what that writes is news to the replica."""

    def __init__(self, runtime: Runtime, kube: Kube, namespace: str) -> None:
        self.runtime = runtime
        self.kube = kube
        self.namespace = namespace

    async def create(self, name: str = "tiny") -> Manifest:
        made = await self.kube.create(TRAINING_JOBS, training_job(self.namespace, name))
        assert made is not None
        return made

    async def status(self, name: str = "tiny") -> Manifest:
        current = await self.kube.get(TRAINING_JOBS, self.namespace, name)
        return (current or {}).get("status") or {}

    async def condition(self, name: str = "tiny") -> Manifest:
        found: Manifest = await eventually(lambda: self._condition(name))
        return found

    async def _condition(self, name: str) -> Manifest | None:
        conditions = (await self.status(name)).get("conditions") or ()
        return next((entry for entry in conditions if entry["type"] == "Reconciled"), None)

    async def has_no_condition(self, name: str = "tiny") -> bool:
        return await self._condition(name) is None


def settings_for(namespace: str) -> Settings:
    return Settings(
        leader_election=LeaderElection(
            namespace=namespace, lease_seconds=3, deadline_seconds=2, renew_seconds=0.5, poll_seconds=0.1
        ),
        queue=Queue(workers=2, minimum_interval_seconds=0.05, backoff_base_seconds=0.1),
        watch_namespaces=[namespace],
        http_address="127.0.0.1",
        http_port=0,
        reports=Reports(service_url=None),
    )


@asynccontextmanager
async def running(
    api_server: ApiServer, story: Story, namespace: str | None = None, *, remembers: Manifest | None = None
) -> AsyncIterator[World]:
    """`remembers`: an object that the replica has seen before it lists."""
    namespace = namespace or new_namespace(api_server, "loop")
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(open_kube(api_server))
        runtime = Runtime(
            settings_for(namespace),
            connect(str(api_server.kubeconfig)),
            [(TRAINING_JOBS, story)],
            identity=Identity("test", "127.0.0.1:1"),
        )
        if remembers is not None:
            runtime.objects.informers[0].cache.put(remembers)
        await runtime.start()
        stack.push_async_callback(runtime.stop)
        yield World(runtime, kube, namespace)


async def test_a_story_runs_when_its_object_is_made_and_again_when_it_says(api_server: ApiServer) -> None:
    times: list[float] = []

    async def story(context: Context, manifest: Manifest) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.3 if len(times) < 3 else None

    async with running(api_server, story) as world:
        await world.create()
        await eventually(lambda: len(times) == 3)
        await asyncio.sleep(0.5)
    assert len(times) == 3
    assert all(later - earlier >= 0.25 for earlier, later in itertools.pairwise(times))


async def test_its_own_status_write_wakes_no_story(api_server: ApiServer) -> None:
    runs: list[str] = []

    async def story(context: Context, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        runs.append(manifest.get("status", {}).get("phase", ""))
        status = {"phase": "Running"}
        if manifest.get("status", {}).get("phase") != "Running":
            await context.kube.write_status(TRAINING_JOBS, meta["namespace"], meta["name"], status, uid=meta["uid"])

    async with running(api_server, story) as world:
        await world.create()
        await eventually(lambda: runs)
        await asyncio.sleep(1)
    assert runs[0] == ""
    assert len(runs) <= 2  # the watch may bring the change before the answer to the write is there


async def test_a_change_of_a_child_wakes_its_owner(api_server: ApiServer) -> None:
    seen: list[list[str]] = []

    async def story(context: Context, manifest: Manifest) -> None:
        seen.append([child["metadata"]["name"] for child in context.config_maps.owned_by(manifest["metadata"]["uid"])])

    async with running(api_server, story) as world:
        made = await world.create()
        await eventually(lambda: seen)
        await world.kube.create(CONFIG_MAPS, config_map(world.namespace, "child", owner=made["metadata"]["uid"]))
        await eventually(lambda: seen[-1] == ["child"])
        await world.kube.delete(CONFIG_MAPS, world.namespace, "child")
        await eventually(lambda: seen[-1] == [])


async def test_an_object_that_waits_for_another_is_woken_by_it(api_server: ApiServer) -> None:
    seen: list[bool] = []

    async def story(context: Context, manifest: Manifest) -> None:
        if manifest["metadata"]["name"] == "waits":
            seen.append(context.objects.get(Key("TrainingJob", manifest["metadata"]["namespace"], "base")) is not None)

    async with running(api_server, story) as world:
        spec = {"model": {"from": {"kind": "TrainingJob", "name": "base"}}}
        await world.kube.create(TRAINING_JOBS, training_job(world.namespace, "waits", **spec))
        await eventually(lambda: seen == [False])
        await world.create("base")
        await eventually(lambda: seen[-1])


async def test_what_the_operator_itself_writes_of_an_object_wakes_those_that_wait_for_it(api_server: ApiServer) -> None:
    """No watch runs here: the answer to a write may be all that ever tells of it, since its echo is no news."""
    woken: list[str] = []
    namespace = new_namespace(api_server, "loop")
    async with open_kube(api_server) as kube:
        objects = Objects(kube, [TRAINING_JOBS], wake=lambda key: woken.append(key.name))
        base = await kube.create(TRAINING_JOBS, training_job(namespace, "base"))
        spec = {"model": {"from": {"kind": "TrainingJob", "name": "base"}}}
        await kube.create(TRAINING_JOBS, training_job(namespace, "waits", **spec))
        assert base is not None
        assert woken == []
        status = {"phase": "Succeeded"}
        await kube.write_status(TRAINING_JOBS, namespace, "base", status, uid=base["metadata"]["uid"])
        assert objects.get(Key("TrainingJob", namespace, "base")) is not None
    assert woken == ["waits"]


async def test_a_replica_works_again_each_time_that_it_leads_again(api_server: ApiServer) -> None:
    times: list[float] = []

    async def story(context: Context, manifest: Manifest) -> float:
        times.append(asyncio.get_running_loop().time())
        return 0.1

    async def depose(world: World) -> None:
        """Another takes the lease in the middle of the work, and is never seen again."""

        async def taken() -> bool:
            lease = await world.kube.get(LEASES, world.namespace, "lmforge-operator")
            assert lease is not None
            with contextlib.suppress(Conflict):
                await world.kube.replace(LEASES, lease | {"spec": lease["spec"] | {"holderIdentity": "another"}})
                return True
            return False

        await eventually(taken)
        await eventually(lambda: not world.runtime.elector.leads)

    async with running(api_server, story) as world:
        await world.create()
        for _ in range(2):
            times.clear()
            await eventually(lambda: len(times) > 2)
            await depose(world)
            assert not world.runtime.failed.done()
        times.clear()
        await eventually(lambda: len(times) > 2)


async def test_a_poison_object_does_not_stop_the_others(api_server: ApiServer) -> None:
    poisoned = 0
    good: set[str] = set()

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal poisoned
        name = manifest["metadata"]["name"]
        if name.startswith("poison"):
            poisoned += 1
            raise ZeroDivisionError("a bug")
        good.add(name)

    async with running(api_server, story) as world:
        for name in ("poison-1", "poison-2", "poison-3", "good-1", "good-2", "good-3", "good-4"):
            await world.create(name)
        await eventually(lambda: len(good) == 4)
        condition = await world.condition("poison-1")
        assert condition["status"] == "False"
        assert condition["reason"] == "OperatorBug"
        assert "ZeroDivisionError: a bug" in condition["message"]
        await eventually(lambda: poisoned > 6)  # it is tried again, with backoff
        events = api_server.kubectl("get", "events", "-n", world.namespace)
        assert events.count("OperatorBug") == 3  # one for each, however often it failed


async def test_the_condition_goes_when_the_trouble_does(api_server: ApiServer) -> None:
    broken = True

    async def story(context: Context, manifest: Manifest) -> None:
        if broken:
            raise RuntimeError("not yet")

    async with running(api_server, story) as world:
        await world.create()
        await world.condition()
        broken = False
        await eventually(world.has_no_condition)


async def test_a_users_error_is_said_once_and_not_tried_again_until_something_changes(api_server: ApiServer) -> None:
    runs = 0

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal runs
        runs += 1
        if not manifest["spec"].get("suspend"):
            raise UserError("The dataset is empty: name another.", reason="EmptyDataset")

    async with running(api_server, story) as world:
        await world.create()
        condition = await world.condition()
        assert condition["reason"] == "EmptyDataset"
        settled = runs
        await asyncio.sleep(1)
        assert runs <= settled + 1
        api_server.kubectl(
            "patch", "tj", "tiny", "-n", world.namespace, "--type=merge", "-p", '{"spec":{"suspend":true}}'
        )
        await eventually(world.has_no_condition)


async def test_what_the_api_server_refuses_is_said_and_tried_again_slowly(api_server: ApiServer) -> None:
    runs = 0

    async def story(context: Context, manifest: Manifest) -> None:
        nonlocal runs
        runs += 1
        await context.kube.create(CONFIG_MAPS, config_map(manifest["metadata"]["namespace"], "Not A Name"))

    async with running(api_server, story) as world:
        await world.create()
        condition = await world.condition()
        assert condition["reason"] == "Refused"
        assert "Not A Name" in condition["message"]
        await asyncio.sleep(1)
        assert runs <= 2


async def test_a_story_that_hangs_is_cut_off_and_others_go_on(api_server: ApiServer) -> None:
    done: list[str] = []

    async def story(context: Context, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        if name == "hangs":
            await asyncio.sleep(3600)
        done.append(name)

    async with running(api_server, story) as world:
        await world.create("hangs")
        await world.create("goes-on")
        await eventually(lambda: done == ["goes-on"])


async def test_losing_the_lease_in_the_middle_of_work_leaves_nothing_stuck(api_server: ApiServer) -> None:
    """Twice as many objects as workers are in flight when the lease goes; all are taken up again."""
    finished: list[str] = []
    hold = asyncio.Event()

    async def story(context: Context, manifest: Manifest) -> None:
        await hold.wait()
        finished.append(manifest["metadata"]["name"])

    async with running(api_server, story) as world:
        for number in range(6):
            await world.create(f"t{number}")
        await eventually(lambda: world.runtime.queue.depths()["active"] == 2)
        for _ in range(3):
            world.runtime.elector._valid_until = 0.0  # as if no renewal had come through in time
            await eventually(lambda: not world.runtime.elector.leads)
            await eventually(lambda: world.runtime.elector.leads)
        hold.set()
        await eventually(lambda: set(finished) >= {f"t{number}" for number in range(6)})
        await eventually(lambda: world.runtime.queue.depths()["active"] == 0)


async def test_what_met_the_fence_is_tried_again_when_the_lease_is_renewed_late(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        if not manifest.get("status"):
            await context.kube.write_status(
                TRAINING_JOBS, meta["namespace"], meta["name"], {"phase": "Running"}, uid=meta["uid"]
            )

    async with running(api_server, story) as world:
        await eventually(lambda: world.runtime.elector.leads)
        names = [f"t{number}" for number in range(6)]
        for name in names:
            world.runtime.elector._valid_until = 0.0  # as if the machine had been too slow to renew
            await world.create(name)
            await asyncio.sleep(0.05)
        for name in names:
            await eventually(lambda name=name: world.status(name))


async def test_a_deleted_object_is_forgotten(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> float:
        return 3600.0

    async with running(api_server, story) as world:
        await world.create()
        key = Key("TrainingJob", world.namespace, "tiny")
        await eventually(lambda: world.runtime.queue.depths()["delayed"] == 1)
        await world.kube.delete(TRAINING_JOBS, world.namespace, "tiny")
        await eventually(lambda: world.runtime.objects.get(key) is None)
        await eventually(lambda: len(world.runtime.queue) == 0)


async def test_an_object_that_went_while_nobody_watched_is_forgotten(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> None:
        return None

    namespace = new_namespace(api_server, "loop")
    ghost = training_job(namespace, "ghost")
    ghost["metadata"] |= {"uid": "gone", "resourceVersion": "1"}
    async with running(api_server, story, namespace, remembers=ghost) as world:
        await world.create("real")
        await eventually(lambda: world.runtime.objects.get(Key("TrainingJob", namespace, "real")))
        assert world.runtime.objects.get(Key("TrainingJob", namespace, "ghost")) is None


async def test_probes_and_metrics_tell_how_it_is(api_server: ApiServer) -> None:
    async def story(context: Context, manifest: Manifest) -> None:
        return None

    async with running(api_server, story) as world, aiohttp.ClientSession() as session:
        await world.create()
        await eventually(
            lambda: (
                world.runtime.elector.leads
                and all(informer.synced for informer in world.runtime.context.informers)
                and world.runtime.objects.get(Key("TrainingJob", world.namespace, "tiny"))
            )
        )
        url = f"http://127.0.0.1:{world.runtime.http_port}"
        for path in ("healthz", "readyz"):
            async with session.get(f"{url}/{path}") as answer:
                assert (answer.status, await answer.text()) == (200, "ok")
        async with session.get(f"{url}/metrics") as answer:
            text = await answer.text()
    assert 'lmforge_objects{kind="TrainingJob",phase="Pending"} 1.0' in text
    assert "lmforge_leader 1.0" in text
    assert 'lmforge_watch_age_seconds{resource="pods"}' in text
