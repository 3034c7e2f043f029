"""The loop on a real API server: work goes on whenever the lease is lost, and renewed late."""

import asyncio
import contextlib

import pytest
from apiserver import ApiServer
from loop_world import World, running
from real_api import Manifest, eventually

from lmforge_operator.engine.context import Context
from lmforge_operator.errors import Conflict
from lmforge_operator.kube.resources import LEASES, TRAINING_JOBS

pytestmark = pytest.mark.integration


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
