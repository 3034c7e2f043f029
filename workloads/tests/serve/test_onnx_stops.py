"""Stop strings, however the text is cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.serve.onnx.stops import StopText

LETTERS = st.text("ab.", max_size=12)


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """All that is shown of these pieces, and whether a stop string was found."""
    seen, text = StopText(stops), ""
    for piece in pieces:
        text += seen.feed(piece)
        if seen.found:
            return text, True
    return text + seen.rest(), False


def plain(text: str, stops: list[str]) -> tuple[str, bool]:
    """The same by looking at every beginning of the text."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


@given(st.lists(LETTERS, max_size=8), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4))
def test_what_is_shown_ends_before_the_first_complete_stop_string_however_it_comes(
    pieces: list[str], stops: list[str]
) -> None:
    assert shown(pieces, stops) == plain("".join(pieces), stops)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    seen = StopText(["\n\nUser:"])
    assert [seen.feed(text) for text in ("Yes.", "\n", "No.", "\n\nUs", "er:")] == ["Yes.", "", "\nNo.", "", ""]
    assert seen.found
