"""The parts that all kinds that train have in common: what a step takes, how it is optimised, what is kept of it."""

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from lmforge_api.base import ApiModel, Rule

Precision = Literal["fp32", "bf16", "fp16"]

FP16_NEEDS_AN_ACCELERATOR = Rule(
    "self.precision != 'fp16' || has(self.resources.accelerator)",
    "precision fp16 needs an accelerator: write bf16 (or fp32) to train on CPU",
    path=".precision",
)


class Batch(ApiModel):
    """Samples a step. Accumulation steps are derived: global / (micro × data)."""

    global_: int = Field(
        8, alias="global", ge=1, le=1_000_000, description="Samples in one optimizer step, over all ranks."
    )
    micro: int = Field(1, ge=1, le=65536, description="Samples that one rank takes through the model at once.")


class AdamW(ApiModel):
    """AdamW (arXiv:1711.05101). Weight decay applies to matrices only."""

    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the second moment.")
    epsilon: float = Field(1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: float = Field(0.1, ge=0, le=10, description="Decoupled weight decay.")
    gradient_clipping: float = Field(1.0, ge=0, description="Largest global norm of the gradients; 0 turns it off.")


class Decay(ApiModel):
    """What the learning rate does after its warm-up."""

    kind: Literal["cosine", "linear", "constant"] = Field("cosine", description="Shape after the warm-up.")
    minimum_ratio: float = Field(0.1, ge=0, le=1, description="Learning rate at the last step, as a share of the peak.")


class Checkpoints(ApiModel):
    """How much work a failure can cost, and how many checkpoints are kept."""

    every_steps: int = Field(100, ge=1, description="Steps between checkpoints: the most that is ever repeated.")
    keep: int = Field(2, ge=1, le=1000, description="Newest checkpoints that stay in the store.")


class EvaluationPlan(ApiModel):
    """When the model is evaluated, and on how much."""

    every_steps: int = Field(
        100, ge=1, description="Steps between evaluations; one is always made after the last step."
    )
    samples: int = Field(64, ge=1, le=1_000_000, description="Sequences to evaluate on, at most.")


class Elastic(ApiModel):
    """Take the nodes there are: data parallelism shrinks and grows with them."""

    cel_rules = (
        Rule(
            cel="self.minNodes <= self.maxNodes",
            message="elastic.minNodes {self.minNodes} is larger than elastic.maxNodes {self.maxNodes}: swap them",
            path=".minNodes",
        ),
    )
    min_nodes: int = Field(1, ge=1, description="Fewest pods to go on with.")
    max_nodes: int = Field(ge=1, description="Most pods to use.")

    def sizes(self, fits: Callable[[int], bool]) -> tuple[int, ...]:
        """Numbers of nodes that it may have and that fit, ascending."""
        return tuple(filter(fits, range(self.min_nodes, self.max_nodes + 1)))


NODES_WITHIN_ELASTIC = Rule(
    "!has(self.elastic) || (self.elastic.minNodes <= self.nodes && self.nodes <= self.elastic.maxNodes)",
    "nodes {self.nodes} is not between elastic.minNodes {self.elastic.minNodes} and elastic.maxNodes "
    "{self.elastic.maxNodes}: nodes is what an elastic run aims for",
    path=".nodes",
)
