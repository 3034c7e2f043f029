"""What every run kind's spec has, whatever the run does."""

from typing import Annotated, Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule
from lmforge_api.common import PodTemplate, Resources, Scheduling


class FailureRule(ApiModel):
    """What to do when an attempt ends in one of these ways. The first rule that fits decides."""

    cel_rules = (
        Rule(
            cel="self.onExitCodes.size() > 0 || self.onReasons.size() > 0",
            message="a failure rule needs onExitCodes or onReasons: say which ends it is for",
        ),
    )
    on_exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        [], max_length=32, description="Exit codes it is for."
    )
    on_reasons: list[Annotated[str, Field(max_length=64)]] = Field(
        [],
        max_length=32,
        description="Reasons it is for, as status.attempts[].reason shows them: OutOfMemory, Hang, NodeLost…",
    )
    action: Literal["Restart", "RestartFree", "Fail"] = Field(
        description="Restart counts towards maxRestarts; RestartFree does not; Fail ends the job."
    )


class FailurePolicy(ApiModel):
    """When to start another attempt, and when to stop."""

    max_restarts: int = Field(
        3,
        ge=0,
        le=1000,
        description="Restarts after failures of the run itself. What the infrastructure did (a lost node, an eviction, a preemption) doesn't count.",
    )
    hang_timeout_seconds: int = Field(
        600,
        ge=10,
        le=86400,
        description="Without a finished step for so long, all ranks dump their stacks and the attempt is over.",
    )
    rules: list[FailureRule] = Field(
        [], max_length=32, description="Exceptions to the built-in rules, first match wins."
    )


class RunFields(ApiModel):
    """What every run kind's spec has, whatever it does."""

    resources: Resources = Field(default_factory=Resources, description="What each pod asks for.")
    failure_policy: FailurePolicy = Field(default_factory=FailurePolicy, description="Restarts, hangs and exceptions.")
    suspend: bool = Field(False, description="Save a checkpoint and free the pods; false goes on from there.")
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Longest time that the run may take in all, while not suspended."
    )
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, description="Delete the object so long after its end. The artifact stays."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Queueing and placement.")
    template: PodTemplate = Field(default_factory=PodTemplate, description="Overrides for the pods.")
