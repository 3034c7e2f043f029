"""Reads what engines measure, straight from their pods, every two seconds: the leader's work beside reconciling."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from lmforge_operator.engine.context import Context
from lmforge_operator.kube.resources import INFERENCE_SERVICES
from lmforge_operator.serving import asking
from lmforge_operator.serving.engines import ENGINES, Engine

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=1.5)


@dataclass(frozen=True)
class Target:
    """A replica that can be asked."""

    uid: str
    pod: str
    url: str
    engine: Engine


async def scrape(context: Context) -> None:
    """Asks all replicas of all services, again and again. One that doesn't answer is missing from the measurements."""
    async with asking.session(TIMEOUT) as session:
        while True:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.sleep(asking.PAUSE_SECONDS))
                for target in targets(context):
                    tasks.create_task(_ask(context, session, target))


def targets(context: Context) -> Iterator[Target]:
    """Every replica that serves."""
    for key in context.objects:
        manifest = context.objects.get(key) if key.kind == INFERENCE_SERVICES.kind else None
        engine = ENGINES.get(manifest["spec"]["engine"]) if manifest else None
        if manifest is None or engine is None:
            continue
        uid = manifest["metadata"]["uid"]
        for pod in asking.replicas(context, uid):
            yield Target(uid, pod.name, asking.url_of(pod) + engine.metrics_path, engine)


async def _ask(context: Context, session: aiohttp.ClientSession, target: Target) -> None:
    try:
        async with session.get(target.url) as response:
            response.raise_for_status()
            text = await response.text()
        load = target.engine.measure(list(text_string_to_metric_families(text)))
    except Exception as error:  # whatever one of them answers, the others are asked
        log.debug("%s can't be measured: %s: %s", target.pod, type(error).__name__, error)
        return
    context.memory.loads.record(target.uid, target.pod, load, now=context.now())
