"""What is done inside the container of an engine with OpenAI's API: the warm-up, and the wait before its end.

Both are programs for the container's own `python`, since engines bring little else. They wait in one process: a new
interpreter every second would take CPU time from the engine.
"""

from collections.abc import Sequence

from lmforge_operator.serving.engines.engine import PORT, UNNOTICED_SECONDS, Task

_WAIT = """\
import json, sys, time
from urllib.request import Request, urlopen
base, model = sys.argv[1:]
until = time.monotonic() + 30
while True:
    try:
        urlopen(base + "/health", timeout=5).close()
        break
    except OSError:
        if time.monotonic() > until:
            sys.exit("not healthy yet")
        time.sleep(0.1)
"""
_ANSWER = """\
body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1}).encode()
urlopen(Request(base + "/v1/completions", body, {"Content-Type": "application/json"})).close()
"""

_DRAIN = """\
import sys, time
from urllib.error import URLError
from urllib.request import urlopen
url, unnoticed, seconds, *gauges = sys.argv[1:]
time.sleep(float(unnoticed))
until, idle = time.monotonic() + float(seconds), 0
while idle < 3 and time.monotonic() < until:
    try:
        lines = urlopen(url, timeout=5).read().decode().splitlines()
        counts = [float(line.split()[-1]) for line in lines if line.partition(" ")[0].partition("{")[0] in gauges]
        idle = idle + 1 if counts and not any(counts) else 0
    except URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            break
    except OSError:
        pass
    time.sleep(0.2)
"""
"""An engine that is too busy to answer is waited for, and one that is gone isn't; one that counts no requests gets all
the time there is. A request may be between socket and counters, so idleness has to be seen three times."""

_OUTLIVE = """\
import os, socket, sys, time
variable, port, unnoticed, seconds = sys.argv[1:]
host = os.environ[variable]
time.sleep(float(unnoticed))
until = time.monotonic() + float(seconds)
while time.monotonic() < until:
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except TimeoutError:
        pass
    except OSError:
        break
    time.sleep(0.5)
"""
"""One that is too busy to answer is there; one that refuses, or has no address any more, is gone."""


def warm_up(task: Task, *, between: str = "") -> tuple[str, ...]:
    """Waits for the server, does what else there is to do, then has it make a token."""
    return ("python", "-c", f"{_WAIT}{between}{_ANSWER}", f"http://127.0.0.1:{PORT}", task.served_name)


def drain(task: Task, *, gauges: Sequence[str], path: str = "/metrics") -> tuple[str, ...]:
    """Waits until the router has noticed, and then until no gauge counts a request, or drainSeconds are over."""
    metrics = f"http://127.0.0.1:{PORT}{path}"
    return ("python", "-c", _DRAIN, metrics, str(UNNOTICED_SECONDS), str(task.spec.drain_seconds), *gauges)


def outlive(task: Task, *, host: str, port: int = PORT) -> tuple[str, ...]:
    """Waits until nobody listens there any more, or drainSeconds are over. `host` is a variable: kubelet puts no values
    into the commands of hooks."""
    return ("python", "-c", _OUTLIVE, host, str(port), str(UNNOTICED_SECONDS), str(task.spec.drain_seconds))
