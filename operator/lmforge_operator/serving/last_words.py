"""What a dead engine's last words (the end of its log) say: the line that tells why. Pure."""

import re

from lmforge_operator.pods.holdups import one_line

_RAISED = re.compile(r"^\s*[\w.]*(Error|Exception|Interrupt)\b.*")


def telling(words: str) -> str:
    """The error that was raised last, or else the last line."""
    lines = [line for line in words.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return one_line((raised or lines or [""])[-1])
