"""The operator's entry: `python -m lmforge_operator --settings settings.yaml`.

kopf watches our kinds and gives start-up, shutdown and credentials. Its handlers only store what they see and put a key
on the queue; engine/ takes it from there. No finalizers, annotations, timers, daemons or peering of kopf are used.
"""

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import kopf

from lmforge_operator import logs
from lmforge_operator.engine.runtime import Runtime
from lmforge_operator.errors import OperatorError
from lmforge_operator.kinds import KINDS
from lmforge_operator.kube.connection import Connection, connect
from lmforge_operator.kube.lease import Identity
from lmforge_operator.kube.resources import Resource
from lmforge_operator.settings import Settings, load

log = logging.getLogger(__name__)

PAGE = 250


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until a signal; the exit status says whether it ended as it should."""
    options = _parser().parse_args(argv)
    try:
        settings = load(options.settings)
        if options.namespace or options.all_namespaces:
            settings = settings.model_copy(update={"watch_namespaces": options.namespace or []})
        logs.configure(settings.log_level)
        connection = connect(options.kubeconfig)
        identity = Identity(
            f"{os.environ.get('POD_NAME') or socket.gethostname()}_{token_hex(4)}",
            f"{os.environ.get('POD_IP') or '127.0.0.1'}:{settings.reports.port}",
        )
        asyncio.run(operate(settings, connection, identity))
    except OperatorError as error:
        print(f"lmforge-operator: {error}", file=sys.stderr)
        return 2
    return 0


async def operate(settings: Settings, connection: Connection, identity: Identity) -> None:
    """Runs a replica until a signal, or until a part of it breaks."""
    runtime = Runtime(settings, connection, [(kind.resource, kind.reconcile) for kind in KINDS], identity=identity)
    await runtime.start()
    registry = _registry(runtime, connection)
    namespaces = settings.watch_namespaces
    kopf_settings = _kopf_settings()
    await kopf.operator(
        registry=registry,
        settings=kopf_settings,
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=runtime.failed,
    )


def _registry(runtime: Runtime, connection: Connection) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connection.fresh()

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await runtime.stop()

    for kind in KINDS:
        _watch(registry, runtime, kind.resource)
    return registry


def _watch(registry: kopf.OperatorRegistry, runtime: Runtime, resource: Resource) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        runtime.objects.observe(resource.kind, event["type"], dict(event["object"]))


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.chunk_size = PAGE
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 90
    settings.networking.request_timeout = 30
    # Handlers take microseconds: a worker that waits for more events of its object only costs memory.
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 0.2
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lmforge-operator", description="The LMForge operator.")
    parser.add_argument("--settings", type=Path, help="YAML or JSON file with the settings")
    parser.add_argument("--kubeconfig", help="default: the pod's service account, else $KUBECONFIG or ~/.kube/config")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("-n", "--namespace", action="append", help="watch only this namespace (may be repeated)")
    scope.add_argument("-A", "--all-namespaces", action="store_true", help="watch all namespaces (the default)")
    return parser
