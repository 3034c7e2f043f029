"""README.md of an artifact: the model card, with what the Hugging Face hub reads in front. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

from lmforge_api.common import Ancestor, InputStatus
from lmforge_api.run import FineTuneRun

_LIBRARIES = ("transformers", "trl", "peft", "torch", "datasets")


def model_card(
    run: FineTuneRun, *, adapter: bool, facts: Mapping[str, str], inputs: Sequence[InputStatus], method: str
) -> str:
    """The card of what this run has left."""
    base = next((known_as(each) for each in inputs if each.name == "model"), "")
    return "\n".join([
        *_front(base, adapter=adapter, method=run.spec.method),
        f"# {run.name}",
        "",
        f"{'An adapter for' if adapter else 'A model made from'} `{base}` by {method}: the FineTune"
        f" `{run.namespace}/{run.name}` of LMForge.",
        "",
        "## Results",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        "## Made from",
        "",
        "| input | where | digest |",
        "| --- | --- | --- |",
        *(f"| {each.name} | `{known_as(each)}` | `{each.digest}` |" for each in inputs),
        *_lineage(run.lineage),
        "",
        "## How",
        "",
        "```json",
        json.dumps(_recipe(run), indent=2),
        "```",
        "",
        f"With {', '.join(f'{name} {version(name)}' for name in _LIBRARIES)}.",
        "",
    ])  # fmt: skip


def known_as(status: InputStatus) -> str:
    """An input as people know it."""
    return status.source or status.uri


def _front(base: str, *, adapter: bool, method: str) -> Iterator[str]:
    yield "---"
    yield f"base_model: {json.dumps(base)}"
    yield f"library_name: {'peft' if adapter else 'transformers'}"
    yield "pipeline_tag: text-generation"
    yield f"tags: [lmforge, {method}]"
    yield "---"


def _lineage(ancestors: Sequence[Ancestor]) -> Iterator[str]:
    if ancestors:
        yield from ("", "These were made from:", "", "| by | as | where | digest |", "| --- | --- | --- | --- |")
    for each in ancestors:
        yield f"| {each.by} | {each.name} | `{each.uri}` | `{each.digest}` |"


def _recipe(run: FineTuneRun) -> dict[str, object]:
    """What of the spec made the model what it is; not where it ran."""
    wire = run.spec.wire()
    return {name: wire[name] for name in type(run.spec).immutable_fields if name in wire}
