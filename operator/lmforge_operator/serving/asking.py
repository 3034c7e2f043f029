"""How the leader asks replicas, straight at their pods and beside reconciling."""

from collections.abc import Iterator

import aiohttp

from lmforge_operator.engine.context import Context
from lmforge_operator.serving.engines.engine import PORT
from lmforge_operator.serving.observed import ReplicaSeen, read_replicas

PAUSE_SECONDS = 2.0
_AT_A_TIME = 64


def session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """To all replicas; `timeout` is for requests that don't say another."""
    connector = aiohttp.TCPConnector(limit=_AT_A_TIME, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def replicas(context: Context, uid: str) -> Iterator[ReplicaSeen]:
    """Those of a service that serve."""
    return (pod for pod in read_replicas(context.pods.owned_by(uid)) if pod.serves and pod.address)


def url_of(replica: ReplicaSeen) -> str:
    """Where it listens."""
    address = f"[{replica.address}]" if ":" in replica.address else replica.address
    return f"http://{address}:{PORT}"
