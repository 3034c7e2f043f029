"""Stop strings: the text ends before the first of them that is complete. Pure."""

from collections.abc import Sequence


class StopText:
    """Takes text as it comes, and gives out what surely is before any stop string.

    The end of what came is held back as long as it may be the beginning of one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What can be shown now. Nothing may be fed once one was found."""
        text = self._held + text
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.found, self._held = True, ""
            _, place = min(found)  # the one that ends first: so it doesn't matter how the text was cut
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back in vain, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
