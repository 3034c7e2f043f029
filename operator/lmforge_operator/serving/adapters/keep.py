"""Brings adapters into running replicas and out of them, straight over HTTP: the leader's work beside reconciling."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from lmforge_operator.engine.context import Context
from lmforge_operator.serving import asking
from lmforge_operator.serving.adapters.replica import Load, ReplicaAdapters, Unload, next_calls
from lmforge_operator.serving.adapters.wanted import Adapter
from lmforge_operator.serving.engines.adapter_api import AdapterApi, Call

log = logging.getLogger(__name__)

ASK = aiohttp.ClientTimeout(total=5)
LOAD = aiohttp.ClientTimeout(total=120)
"""Weights may come over a slow network."""


@dataclass(frozen=True)
class Target:
    """A replica that takes adapters."""

    uid: str
    pod: str
    url: str
    api: AdapterApi


class Refused(Exception):
    """The engine did not do what it was asked; the text says why."""


async def keep_adapters(context: Context) -> None:
    """Again and again, and at once when other adapters are wanted. A slow replica keeps no other one waiting."""
    book = context.memory.adapters
    at_work: set[Target] = set()
    async with asking.session(ASK) as session, asyncio.TaskGroup() as tasks:
        while True:
            book.changed.clear()
            for target in targets(context):
                if target not in at_work:
                    at_work.add(target)
                    tasks.create_task(_bring_there(context, session, target, at_work))
            with suppress(TimeoutError):
                async with asyncio.timeout(asking.PAUSE_SECONDS):
                    await book.changed.wait()


def targets(context: Context) -> Iterator[Target]:
    """Every replica that serves and takes adapters."""
    for uid, wanted in context.memory.adapters.services():
        engine = wanted.engine
        if engine.adapters is None:
            continue
        for pod in asking.replicas(context, uid):
            if pod.takes_adapters:
                yield Target(uid, pod.name, asking.url_of(pod), engine.adapters)


async def _bring_there(context: Context, session: aiohttp.ClientSession, target: Target, at_work: set[Target]) -> None:
    try:
        await _converge(context, session, target)
    except (aiohttp.ClientError, TimeoutError, Refused, ValueError) as error:
        log.debug("%s can't be asked for its adapters: %s: %s", target.pod, type(error).__name__, error)
    except Exception:  # whatever one of them answers, the others are asked
        log.exception("the adapters of %s can't be kept", target.pod)
    finally:
        at_work.discard(target)


async def _converge(context: Context, session: aiohttp.ClientSession, target: Target) -> None:
    book = context.memory.adapters
    wanted = book.wanted(target.uid)
    async with session.get(target.url + target.api.list_path) as response:
        response.raise_for_status()
        paths = target.api.loaded(await response.json())
    if wanted is None:
        return
    replica = book.replica(target.uid, target.pod).seen(paths, wanted.adapters)
    book.record(target.uid, target.pod, replica)
    for call in next_calls(wanted.adapters, replica, now=context.now()):
        replica = await _carry_out(context, session, target, call, replica)
        book.record(target.uid, target.pod, replica)


async def _carry_out(
    context: Context, session: aiohttp.ClientSession, target: Target, call: Load | Unload, replica: ReplicaAdapters
) -> ReplicaAdapters:
    """The replica afterwards. An adapter that can't be loaded is remembered; all else is tried again soon."""
    if isinstance(call, Unload):
        await _post(session, target, target.api.unload(call.name))
        return replica.dropped(call.name)
    adapter = call.adapter
    ask = target.api.replace if call.replaces else target.api.load
    try:
        await _post(session, target, ask(adapter.name, adapter.path))
    except (Refused, TimeoutError) as error:
        log.info("%s can't load adapter %s: %s", target.pod, adapter.name, error)
        return replica.refused(adapter, _sentence(target.api, adapter, error), now=context.now())
    log.info("%s has loaded adapter %s from %s", target.pod, adapter.name, adapter.uri)
    return replica.took(adapter)


async def _post(session: aiohttp.ClientSession, target: Target, calls: tuple[Call, ...]) -> None:
    """Raises Refused with the engine's own words."""
    for call in calls:
        async with session.post(target.url + call.path, json=call.body, timeout=LOAD) as response:
            if not response.ok:
                raise Refused(_words(response.status, await response.text()))


def _sentence(api: AdapterApi, adapter: Adapter, error: Exception) -> str:
    told = "the engine did not answer in time" if isinstance(error, TimeoutError) else api.explain(str(error))
    return f"{adapter.source}: {told.replace(adapter.path, adapter.uri)}"


def _words(status: int, text: str) -> str:
    """The message of an error as OpenAI's API has it, or what there is."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        body: Any = json.loads(text)
        found = body.get("error", body)
        return str(found["message"]).strip()
    return text.strip()[:400] or f"HTTP {status}"
