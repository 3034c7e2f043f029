"""What a dead engine's last words (the end of its log) say: the line that tells why. Pure."""

import re

from lmforge_operator.pods.holdups import one_line

_PREFIX = re.compile(r"^\(\w+ pid=\d+\) (ERROR [-\d]+ [:\d]+ \[[^]]*\] ?)?")
"""vLLM's processes put their names before each line, and its loggers the time and place."""
_RAISED = re.compile(r"^([\w.]*(Error|Exception|Interrupt)\b|Value error, )")
"""pydantic's errors have what is wrong in a line of its own."""
_FOLLOWS = re.compile(r"See root cause above|^ConnectionResetError|^BrokenPipeError|^EOFError")
"""Errors of those who only notice that another process has failed."""
_PASSED_ON = re.compile(r"""Worker failed with error (["'])(.*)\1, please check""")
"""An error of a worker, as the engine repeats it."""


def telling(words: str) -> str:
    """The last error that is the cause of others; else the last error, or line."""
    lines = [line for each in words.splitlines() if (line := _PREFIX.sub("", each).strip())]
    raised = [line for line in lines if _RAISED.match(line)]
    causes = [line for line in raised if not _FOLLOWS.search(line)]
    chosen = (causes or raised or lines or [""])[-1]
    passed_on = _PASSED_ON.search(chosen)
    return one_line(passed_on[2] if passed_on else chosen.partition(" [type=")[0])
