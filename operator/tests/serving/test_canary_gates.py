"""When a canary's gate fails: a table of what was counted and what is said of it."""

import pytest
from canary_builders import GATES, counts
from serving_builders import NEW

from lmforge_api.gateway_run import RevisionCounts
from lmforge_api.inferenceservice_parts import CanaryGates
from lmforge_operator.serving.gates import Counts, failed_gate, has_seen_enough, total

FAILED = {
    "nothing yet": (Counts(), Counts(), ""),
    "all is well": (counts(200, 1), counts(900), ""),
    "as many errors as may be": (counts(20, 1), counts(20), ""),
    "an error more": (
        counts(20, 2), counts(20), "2 of 20 requests failed (10.0%), and gates.maxErrorPercent is 5",
    ),
    "the first of all requests fails, which the rest can make good": (counts(1, 1), Counts(), ""),
    "so many fail that the rest can not": (
        counts(2, 2), Counts(), "2 of 2 requests failed (100.0%), and gates.maxErrorPercent is 5",
    ),
    "errors of the current revision": (counts(100), counts(100, 90), ""),
    "slow": (
        counts(20, ms=201), counts(20, ms=190),
        "the first token takes 201ms (mean of 20), and gates.maxTtftMs is 200",
    ),
    "one slow answer among the first": (counts(1, ms=3000), Counts(), ""),
    "one that is too slow for all": (
        counts(1, ms=4001), Counts(), "the first token takes 4001ms (mean of 1), and gates.maxTtftMs is 200",
    ),
    "slower than the current revision": (
        counts(20, ms=121), counts(20, ms=80),
        "the first token takes 121ms against 80ms, and gates.maxTtftPercent is 150",
    ),
    "slower at first": (counts(19, ms=121), counts(20, ms=80), ""),
    "nothing to compare with": (counts(20, ms=121), counts(20, streams=0), ""),
    "no streamed answers": (counts(20, streams=0), counts(20, ms=80), ""),
}  # fmt: skip


@pytest.mark.parametrize(("canary", "current", "said"), FAILED.values(), ids=FAILED.keys())
def test_a_gate_fails_as_soon_as_nothing_can_save_it(canary: Counts, current: Counts, said: str) -> None:
    assert failed_gate(CanaryGates.model_validate(GATES), canary, current) == said


def test_what_several_gateways_saw_is_added_up() -> None:
    seen = [RevisionCounts(revision=NEW, requests=n, errors=1, first_tokens=2, first_token_seconds=0.5) for n in (3, 4)]
    assert total(seen) == Counts(7, 2, 4, 1.0)


def test_without_a_gate_on_the_first_token_nobody_has_to_stream() -> None:
    gates = CanaryGates.model_validate({"minRequests": 20})
    assert has_seen_enough(gates, counts(20, streams=0), Counts())
    assert not has_seen_enough(gates, counts(19), Counts())
