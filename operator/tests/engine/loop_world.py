"""A replica of the operator on a real API server, with a test's own story in the place of a kind's."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from apiserver import ApiServer
from real_api import Manifest, eventually, new_namespace, open_kube, training_job

from lmforge_operator.engine.context import Context
from lmforge_operator.engine.runtime import Runtime
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.connection import connect
from lmforge_operator.kube.lease import Identity
from lmforge_operator.kube.resources import TRAINING_JOBS
from lmforge_operator.settings import LeaderElection, Queue, Reports, Settings

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
