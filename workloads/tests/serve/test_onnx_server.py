"""The program itself with a real model, and the official client."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import onnxruntime_genai as og
import pytest
from gateways import until
from openai import AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.paths import default_paths
from e2e.models import smollm2_onnx
from lmforge_operator.serving.engines.onnxruntime import ONNXRUNTIME
from lmforge_operator.serving.load import EngineLoad
from lmforge_workloads.common.exits import ExitCode
from lmforge_workloads.serve.onnx.generation import PROMPT_PIECE
from lmforge_workloads.serve.onnx.model import Model, tokens_array

NAME = "smollm2"
COMMAND = [sys.executable, "-m", "lmforge_workloads.serve.onnx"]
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
LONG_PROMPT = Path(json.__file__).read_text()[:1200]
PROMPTS = ["Once upon a time", "def fibonacci(n):\n", LONG_PROMPT]

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def directory() -> Path:
    return smollm2_onnx(default_paths())


@dataclass
class Running:
    process: asyncio.subprocess.Process
    url: str
    http: aiohttp.ClientSession

    @property
    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    async def status(self, path: str) -> int:
        async with self.http.get(self.url + path) as response:
            return response.status

    async def load(self) -> EngineLoad:
        """As the operator reads it."""
        async with self.http.get(f"{self.url}/metrics") as response:
            return ONNXRUNTIME.measure(list(text_string_to_metric_families(await response.text())))

    async def metric(self, name: str, **labels: str) -> float:
        async with self.http.get(f"{self.url}/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        samples = [sample for family in families for sample in family.samples]
        mine = [sample for sample in samples if sample.name == f"lmforge_engine_{name}"]
        return sum(sample.value for sample in mine if labels.items() <= sample.labels.items())


@asynccontextmanager
async def program(directory: Path, *more: str) -> AsyncIterator[Running]:
    words = ["--model", str(directory), "--served-model-name", NAME, "--port", "0", "--max-model-len", "2048", *more]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, "--threads", "1", stderr=asyncio.subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(120):
            while (line := json.loads(await process.stderr.readline()))["message"] != "listening":
                pass
        async with aiohttp.ClientSession() as http:
            yield Running(process, f"http://127.0.0.1:{line['port']}", http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def plain_loop(model: Model, prompt: Sequence[int], tokens: int) -> str:
    """onnxruntime-genai's own loop, greedy."""
    params = og.GeneratorParams(model.weights)
    params.set_search_options(max_length=len(prompt) + tokens, do_sample=False)
    generator = og.Generator(model.weights, params)
    generator.append_tokens(tokens_array(prompt))
    made = []
    while not generator.is_done():
        generator.generate_next_token()
        made.append(int(generator.get_next_tokens()[0]))
    return str(model.tokenizer.decode(tokens_array([token for token in made if token not in model.ends])))


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    """In this process, to compare with."""
    return Model(directory, threads=1)


async def test_answers_are_those_of_the_plain_loop_also_when_several_are_made_at_once(
    directory: Path, model: Model
) -> None:
    prompts = [model.encode(prompt) for prompt in PROMPTS]
    assert len(prompts[-1]) > 2 * PROMPT_PIECE
    expected = [plain_loop(model, prompt, 24) for prompt in prompts]
    async with program(directory) as running:
        made = await asyncio.gather(
            *(
                running.client.completions.create(model=NAME, prompt=prompt, max_tokens=24, temperature=0)
                for prompt in PROMPTS
            )
        )
        assert [each.choices[0].text for each in made] == expected
        assert [each.usage.prompt_tokens for each in made if each.usage] == [len(prompt) for prompt in prompts]


async def test_the_official_client_gets_right_answers_clear_errors_and_its_stops(directory: Path) -> None:
    async with program(directory) as running:
        chat = running.client.chat.completions
        whole = await chat.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=40)
        text = whole.choices[0].message.content
        assert text is not None
        assert "Paris" in text
        assert whole.choices[0].finish_reason == "stop"
        usage: Any = {"include_usage": True}
        chunks = [
            chunk
            async for chunk in await chat.create(
                model=NAME, messages=QUESTION, temperature=0, max_tokens=40, stream=True, stream_options=usage
            )
        ]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage

        stopped = await chat.create(model=NAME, messages=QUESTION, temperature=0, stop=[" France is"])
        assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("The capital of", "stop")
        cut = await chat.create(model=NAME, messages=QUESTION, temperature=0, max_completion_tokens=3)
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("The capital of", "length")
        assert cut.usage is not None
        assert cut.usage.completion_tokens == 3
        seeded = [await chat.create(model=NAME, messages=QUESTION, seed=seed, max_tokens=12) for seed in (7, 7, 8)]
        texts = [each.choices[0].message.content for each in seeded]
        assert texts[0] == texts[1] != texts[2]

        with pytest.raises(NotFoundError, match=f"write {NAME}"):
            await chat.create(model="other", messages=QUESTION)
        with pytest.raises(BadRequestError, match="context is 2048 tokens"):
            await chat.create(model=NAME, messages=QUESTION, max_tokens=2048)
        with pytest.raises(BadRequestError, match=r"temperature: Input should be less than"):
            await chat.create(model=NAME, messages=QUESTION, temperature=3)
        async with running.http.post(f"{running.url}/v1/completions", json={"model": NAME, "prompt": "\ud800"}) as half:
            assert half.status == 400
        assert [model.id async for model in await running.client.models.list()] == [NAME]
        load = await running.load()
        assert (load.answered, load.first_tokens, load.running, load.waiting) == (7, 7, 0, 0)
        assert load.tokens > 7
        assert load.first_token_seconds > 0
        assert await running.metric("requests_finished_total", reason="length") == 4


def test_characters_of_several_tokens_come_whole(model: Model) -> None:
    text = "日本語 — 🎉🎉 ça"
    stream = model.tokenizer.create_stream()
    pieces = [stream.decode(token) for token in model.encode(text)]
    assert len(pieces) > len(text)
    assert "".join(pieces) == text


async def test_a_client_that_goes_stops_its_answer_and_a_drain_lets_others_end(directory: Path) -> None:
    async with program(directory, "--shutdown-timeout", "60") as running:
        stream: Any = {
            "model": NAME,
            "prompt": "Once upon a time",
            "max_tokens": 60,
            "stream": True,
            "ignore_eos": True,
        }
        async with running.http.post(f"{running.url}/v1/completions", json=stream | {"max_tokens": 1500}) as gone:
            await gone.content.readuntil(b"\n\n")

        async def ended() -> bool:
            return await running.metric("requests_running") == 0

        async def begun() -> bool:
            return await running.metric("requests_running") > 0

        await until(ended, what="the answer whose client went is given up", seconds=20)
        whole = running.client.completions.create(model=NAME, prompt="Once upon a time", max_tokens=1500)
        waiting = asyncio.ensure_future(whole)
        await until(begun, what="the next answer is being made", seconds=20)
        waiting.cancel()
        await until(ended, what="an answer that doesn't stream is given up too", seconds=20)
        assert await running.metric("requests_finished_total", reason="cancelled") == 2

        async with running.http.post(f"{running.url}/v1/completions", json=stream) as last:
            first = await last.content.readuntil(b"\n\n")
            assert await running.status("/ping") == 200
            running.process.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                return await running.status("/health") == 503

            await until(draining, what="probes say that nothing new is taken")
            with pytest.raises(InternalServerError, match="finishes its last requests"):
                await running.client.completions.create(model=NAME, prompt="Hello")
            events = (first + await last.read()).decode().split("\n\n")
        assert json.loads(events[-3].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert events[-2] == "data: [DONE]"
        async with asyncio.timeout(20):
            assert await running.process.wait() == 0


async def test_an_answer_that_outlasts_the_drain_ends_with_an_error(directory: Path) -> None:
    async with program(directory, "--shutdown-timeout", "1") as running:
        stream: Any = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 2000, "stream": True}
        async with running.http.post(f"{running.url}/v1/completions", json=stream) as cut:
            await cut.content.readuntil(b"\n\n")
            running.process.send_signal(signal.SIGTERM)
            rest = await cut.read()
        assert b"The engine was stopped before" in rest.split(b"\n\n")[-2]
        async with asyncio.timeout(20):
            assert await running.process.wait() == 0


def ends(*words: str) -> tuple[int, str]:
    """Exit code and last line of a program that doesn't start."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_what_cannot_be_loaded_ends_the_program_with_a_sentence(directory: Path, tmp_path: Path) -> None:
    assert ends("--model", str(tmp_path)) == (
        ExitCode.USER_ERROR,
        f"error: {tmp_path} holds no genai_config.json: it is no ONNX model directory. Make one with "
        "python -m onnxruntime_genai.models.builder, or serve Hugging Face directories with engine vllm",
    )
    (tmp_path / "genai_config.json").write_bytes((directory / "genai_config.json").read_bytes())
    code, said = ends("--model", str(tmp_path))
    assert code == ExitCode.USER_ERROR
    assert said.startswith(f"error: onnxruntime can't load the model in {tmp_path}: ")
    code, said = ends("--model", str(directory), "--max-model-len", "9000")
    assert (code, said) == (
        ExitCode.USER_ERROR,
        "error: --max-model-len is 9000, but the model's context is 8192 tokens: write at most that",
    )
