"""The warm-up of a replica with adapters: the real program, as its pod runs it, before a stand-in for the engine."""

import asyncio
import json
import sys
from pathlib import Path

from lora_engine import PORT, LoraEngine, lora_engine
from serving_builders import spec

from lmforge_operator.serving.engines import Task
from lmforge_operator.serving.engines.engine import ADAPTERS_PATH
from lmforge_operator.serving.engines.vllm import warm_up

TASK = Task("chat", "/models/tiny", spec(engineArgs={"lora": {}}))
ADDRESS = "127.76.0.1"


async def warmed_up(engine: LoraEngine, adapters: Path) -> int | None:
    """Runs it once, with its adapters in this file; gives its exit status."""
    _, flag, program, _, model = warm_up(TASK)
    told = program.replace(repr(ADAPTERS_PATH), repr(str(adapters)))
    process = await asyncio.create_subprocess_exec(sys.executable, flag, told, f"http://{engine.address}:{PORT}", model)
    return await process.wait()


async def test_adapters_are_loaded_before_the_first_answer_and_a_broken_one_keeps_no_replica_from_serving(
    tmp_path: Path,
) -> None:
    file = tmp_path / "adapters.json"
    file.write_text(json.dumps({"broken": "/adapters/broken", "legal": "/adapters/legal"}))
    async with lora_engine(ADDRESS) as engine:
        assert await warmed_up(engine, file) == 0
        assert engine.calls == [("load", "broken"), ("load", "legal"), ("complete", "chat")]
        assert engine.loaded == {"legal": "/adapters/legal"}
        assert await warmed_up(engine, file) == 0, "a second try finds what the first has loaded"


async def test_a_replica_without_its_list_of_adapters_starts_too(tmp_path: Path) -> None:
    async with lora_engine(ADDRESS) as engine:
        assert await warmed_up(engine, tmp_path / "nothing.json") == 0
        assert engine.calls == [("complete", "chat")]
