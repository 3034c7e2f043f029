"""The operator's entry: `python -m lmforge_operator --settings settings.yaml`.

kopf runs the process: it logs in, starts and stops. Our own informers watch (kube/informer.py says why), engine/ keeps
the queue of what has to be looked at, and kinds/ says what to do.
"""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import kopf
import uvloop

from lmforge_operator import logs
from lmforge_operator.engine.runtime import Runtime
from lmforge_operator.errors import OperatorError
from lmforge_operator.kinds import BACKGROUND, KINDS
from lmforge_operator.kube.connection import Connection, connect
from lmforge_operator.kube.lease import Identity
from lmforge_operator.settings import Settings, load

log = logging.getLogger(__name__)


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
        uvloop.run(operate(settings, connection, identity))
    except OperatorError as error:
        print(f"lmforge-operator: {error}", file=sys.stderr)
        return 2
    return 0


async def operate(settings: Settings, connection: Connection, identity: Identity) -> None:
    """Runs a replica until a signal, or until a part of it breaks."""
    kinds = [(kind.resource, kind.reconcile) for kind in KINDS]
    runtime = Runtime(settings, connection, kinds, identity=identity, background=BACKGROUND)
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connection.fresh()

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await runtime.stop()
        if not runtime.failed.done():  # kopf waits for its stop flag even after all else has ended
            runtime.failed.set_result(None)

    await runtime.start()
    await kopf.operator(
        registry=registry, settings=_quiet(), clusterwide=True, standalone=True, stop_flag=runtime.failed
    )


def _quiet() -> kopf.OperatorSettings:
    """kopf has nothing to watch and nothing to say."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.networking.request_timeout = 30
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lmforge-operator", description="The LMForge operator.")
    parser.add_argument("--settings", type=Path, help="YAML or JSON file with the settings")
    parser.add_argument("--kubeconfig", help="default: the pod's service account, else $KUBECONFIG or ~/.kube/config")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("-n", "--namespace", action="append", help="watch only this namespace (may be repeated)")
    scope.add_argument("-A", "--all-namespaces", action="store_true", help="watch all namespaces (the default)")
    return parser
