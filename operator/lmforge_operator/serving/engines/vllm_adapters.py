"""vLLM's LoRA adapters at run time: its endpoints are there with VLLM_ALLOW_RUNTIME_LORA_UPDATING."""

import re
from collections.abc import Iterator, Mapping

from lmforge_api.inferenceservice_adapters import Lora
from lmforge_operator.serving.engines.adapter_api import AdapterApi, Call
from lmforge_operator.serving.engines.engine import ADAPTERS_PATH

CHECKED = "@new"
"""Ends the name under which new weights are tried; no adapter of a spec can have such a name."""

_RAISED = r"Worker failed with error [\"'](.*)[\"'], please check"
_REMEDIES = (
    (r"No adapter found for", r"there is no adapter (adapter_config.json): correct its uri"),
    (r"LoRA rank (\d+) is greater than max_lora_rank", r"its rank is \1: raise engineArgs.lora.maxRank"),
    (
        r"[Ss]ize of tensor|expected target modules",
        "it was made for another model: name one made for this one",
    ),
    (_RAISED, r"the engine can't use its files (\1): correct them, or its uri"),
)


LOAD = f"""\
try:
    adapters = json.load(open({ADAPTERS_PATH!r}))
except FileNotFoundError:
    adapters = {{}}
for name, path in adapters.items():
    body = json.dumps({{"lora_name": name, "lora_path": path}}).encode()
    try:
        headers = {{"Content-Type": "application/json"}}
        urlopen(Request(base + "/v1/load_lora_adapter", body, headers), timeout=20).close()
    except OSError as error:
        print(f"adapter {{name}}: {{error}}")
"""
"""A part of the warm-up: adapters are there before the first request. The operator tells of those that can't."""


def arguments(lora: Lora) -> Iterator[str]:
    """Of the server."""
    yield "--enable-lora"
    for name, value in (
        ("max-lora-rank", lora.max_rank),
        ("max-loras", lora.max_active),
        ("max-cpu-loras", lora.max_loaded),
    ):
        yield from (f"--{name}", str(value))


def loaded(answer: Mapping[str, object]) -> dict[str, str]:
    """Adapters are the models that have a parent; their root is the path."""
    models = answer.get("data")
    assert isinstance(models, list), "a list of models"
    return {str(model["id"]): str(model["root"]) for model in models if model.get("parent")}


def load(name: str, path: str) -> tuple[Call, ...]:
    """Requests that come while it loads wait for it."""
    return (Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}),)


def unload(name: str) -> tuple[Call, ...]:
    """Requests that run keep it to their end."""
    return (Call("/v1/unload_lora_adapter", {"lora_name": name}),)


def replace(name: str, path: str) -> tuple[Call, ...]:
    """First under another name, to see whether it can be loaded: then the gap is one call's way long.

    (With load_inplace vLLM would read the files again at every step from then on, and requests that run would change
    their weights in the middle.)
    """
    tried = f"{name}{CHECKED}"
    return (*load(tried, path), *unload(name), *load(name, path), *unload(tried))


def explain(error: str) -> str:
    """What to do where that is known, else vLLM's words."""
    found = ((re.search(pattern, error), told) for pattern, told in _REMEDIES)
    return next((match.expand(told) for match, told in found if match), error)


ADAPTERS = AdapterApi(list_path="/v1/models", loaded=loaded, load=load, replace=replace, unload=unload, explain=explain)
