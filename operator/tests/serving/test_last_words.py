"""Why an engine died: from the ends of vLLM's logs as Kubernetes kept them (vllm_last_words, of vLLM 0.32 on CPU)."""

from pathlib import Path

import pytest

from lmforge_operator.serving.last_words import telling

LOGS = Path(__file__).parent / "vllm_last_words"
BEGINNINGS = {
    "no_memory": "Available memory on node 0 (13.17/23.54 GiB) on kv cache allocation is less than requested memory "
    "for kv (1000.0 GiB). Decrease ",
    "small_cache": "ValueError: To serve at least one request with the model's max seq len (2048), (0.04 GiB KV cache "
    "is needed, which is larger than the available KV cache memory (0.01 GiB). ",
    "long_context": "Value error, User-specified max_model_len (999999) is greater than the derived max_model_len ",
}


@pytest.mark.parametrize(("log", "beginning"), BEGINNINGS.items(), ids=BEGINNINGS)
def test_the_root_cause_is_what_vllms_last_words_come_to(log: str, beginning: str) -> None:
    assert telling((LOGS / f"{log}.log").read_text()).startswith(beginning)


CORE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
LOG = "(EngineCore pid=33) ERROR 11-26 12:51:42 [core.py:1510]"
TOLD = {
    "a logged error, with its process before it": (f"{LOG}   File x\n{LOG} ValueError: no\n{CORE}", "ValueError: no"),
    "one that notices that another is gone": (
        "ValueError: no\nBrokenPipeError: [Errno 32] Broken pipe",
        "ValueError: no",
    ),
    "nothing but the consequence": (f"  File x\n{CORE}\n  warnings.warn(", CORE),
    "no error": ("loading\n\nbye.\n", "bye"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("words", "said"), TOLD.values(), ids=TOLD)
def test_the_cause_goes_before_what_follows_from_it(words: str, said: str) -> None:
    assert telling(words) == said
