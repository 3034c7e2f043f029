"""What a canary has to show: the gates, judged by what clients got from it and from the current revision. Pure.

A gate fails as soon as nothing that may still come could save it. Requests that are missing for `minRequests` are taken
for good ones: so one error among the first few rolls nothing back that a hundred would allow, and a revision that only
errs doesn't get all hundred. The comparison with the current revision waits for all of them. For the gates on the first
token only streamed answers count, and the step lasts until there are `minRequests` of those.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lmforge_api.gateway_run import RevisionCounts
from lmforge_api.inferenceservice_parts import CanaryGates


@dataclass(frozen=True)
class Counts:
    """What clients got from a revision since a step began."""

    requests: int = 0
    errors: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0

    @property
    def error_percent(self) -> float:
        return 100 * self.errors / self.requests if self.requests else 0.0

    @property
    def first_token_ms(self) -> float | None:
        """Mean, None without a streamed answer."""
        return 1000 * self.first_token_seconds / self.first_tokens if self.first_tokens else None


def total(counts: Iterable[RevisionCounts]) -> Counts:
    """What several gateways have seen of one revision."""
    seen = list(counts)
    return Counts(
        requests=sum(each.requests for each in seen),
        errors=sum(each.errors for each in seen),
        first_tokens=sum(each.first_tokens for each in seen),
        first_token_seconds=sum(each.first_token_seconds for each in seen),
    )


def failed_gate(gates: CanaryGates, canary: Counts, current: Counts) -> str:
    """The gate that can't hold any more, with its numbers; empty while all may."""
    return _errors(gates, canary) or _first_token(gates, canary) or _against_current(gates, canary, current)


def has_seen_enough(gates: CanaryGates, canary: Counts, current: Counts) -> bool:
    """Whether all gates can be judged: those on the first token by streamed answers, for others have none."""
    if needs_streams(gates) and canary.first_tokens < gates.min_requests:
        return False
    compares = gates.max_ttft_percent is not None and gates.min_requests > 0
    return canary.requests >= gates.min_requests and not (compares and not current.first_tokens)


def needs_streams(gates: CanaryGates) -> bool:
    return gates.max_ttft_ms is not None or gates.max_ttft_percent is not None


def _errors(gates: CanaryGates, canary: Counts) -> str:
    limit = gates.max_error_percent
    if 100 * canary.errors <= limit * max(canary.requests, gates.min_requests):
        return ""
    rate = f"{canary.error_percent:.1f}%"
    return f"{canary.errors} of {canary.requests} requests failed ({rate}), and gates.maxErrorPercent is {limit:g}"


def _first_token(gates: CanaryGates, canary: Counts) -> str:
    mean, limit = canary.first_token_ms, gates.max_ttft_ms
    if mean is None or limit is None:
        return ""
    if 1000 * canary.first_token_seconds <= limit * max(canary.first_tokens, gates.min_requests):
        return ""
    return f"the first token takes {mean:.0f}ms (mean of {canary.first_tokens}), and gates.maxTtftMs is {limit}"


def _against_current(gates: CanaryGates, canary: Counts, current: Counts) -> str:
    mean, other, limit = canary.first_token_ms, current.first_token_ms, gates.max_ttft_percent
    if mean is None or other is None or limit is None or canary.first_tokens < gates.min_requests:
        return ""
    if 100 * mean <= limit * other:
        return ""
    return f"the first token takes {mean:.0f}ms against {other:.0f}ms, and gates.maxTtftPercent is {limit}"
