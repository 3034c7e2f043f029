"""What gets a replica restarted, and the sentence for it."""

import pytest

from lmforge_operator.engine.health import Health

FINDINGS: dict[str, tuple[dict[str, float], list[str]]] = {
    "at work": ({"waiting": 0, "idle": 0, "out_of_office": 2}, []),
    "nothing to do": ({"waiting": 0, "idle": 9999, "out_of_office": 2}, []),
    "much to do": ({"waiting": 9999, "idle": 1, "out_of_office": 2}, []),
    "a loop that stands": ({"waiting": 100, "idle": 95, "out_of_office": 2}, ["the loop has taken nothing for 95 s"]),
    "neither leader nor standby": (
        {"waiting": 0, "idle": 9999, "out_of_office": 130},
        ["it has neither led nor run for office for 130 s"],
    ),
}


@pytest.mark.parametrize(("seconds", "found"), FINDINGS.values(), ids=FINDINGS.keys())
def test_a_replica_is_dead_when_a_part_of_it_stands_still(seconds: dict[str, float], found: list[str]) -> None:
    def since(name: str) -> float:
        return seconds[name]

    health = Health(
        informers=[],
        waiting=lambda: since("waiting"),
        idle=lambda: since("idle"),
        out_of_office=lambda: since("out_of_office"),
    )
    assert health.dead() == found
