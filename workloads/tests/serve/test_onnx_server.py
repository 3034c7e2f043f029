"""The program itself with a real model, and the official client."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import onnxruntime_genai as og
import pytest
from gateways import until
from openai import AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.paths import default_paths
from e2e.models import smollm2_onnx
from lmforge_operator.serving.engines.onnxruntime import ONNXRUNTIME
from lmforge_operator.serving.load import EngineLoad
from lmforge_workloads.common.exits import ExitCode, UserError
from lmforge_workloads.serve.onnx.generation import PROMPT_PIECE
from lmforge_workloads.serve.onnx.model import Model, tokens_array

NAME = "smollm2"
COMMAND = [sys.executable, "-m", "lmforge_workloads.serve.onnx"]
ENDLESS = {"max_tokens": 1500, "ignore_eos": True}
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
LONG_PROMPT = Path(json.__file__).read_text()[:1200]
PROMPTS = ["Once upon a time", "def fibonacci(n):\n", LONG_PROMPT]

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def directory() -> Path:
    return smollm2_onnx(default_paths())


@dataclass
class Running:
    """The program, as clients meet it."""

    process: subprocess.Popen[str]
    url: str
    http: aiohttp.ClientSession
    client: AsyncOpenAI

    async def status(self, path: str) -> int:
        async with self.http.get(self.url + path) as response:
            return response.status

    async def families(self) -> list[Metric]:
        async with self.http.get(f"{self.url}/metrics") as response:
            return list(text_string_to_metric_families(await response.text()))

    async def load(self) -> EngineLoad:
        """As the operator reads it."""
        return ONNXRUNTIME.measure(await self.families())

    async def cancelled(self) -> float:
        """Requests whose clients went."""
        samples = [sample for family in await self.families() for sample in family.samples]
        name, reason = "lmforge_engine_requests_finished_total", {"reason": "cancelled"}
        return sum(sample.value for sample in samples if (sample.name, sample.labels) == (name, reason))

    async def idle(self) -> bool:
        return (await self.load()).running == 0

    async def busy(self) -> bool:
        return not await self.idle()

    async def exit_code(self) -> int:
        """Once it has ended."""
        return await asyncio.to_thread(self.process.wait, timeout=30)


@contextmanager
def program(directory: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program, and its URL."""
    words = ["--model", str(directory), "--served-model-name", NAME, "--port", "0", "--max-model-len", "2048", *more]
    process = subprocess.Popen([*COMMAND, *words, "--threads", "1"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line: dict[str, Any] = {}
        while line.get("message") != "listening":
            line = json.loads(process.stderr.readline())
        yield process, f"http://127.0.0.1:{line['port']}"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with program(directory) as found:
        yield found


@asynccontextmanager
async def met(process: subprocess.Popen[str], url: str) -> AsyncIterator[Running]:
    """With clients."""
    async with (
        aiohttp.ClientSession() as http,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield Running(process, url, http, client)


@pytest.fixture
async def running(served: tuple[subprocess.Popen[str], str]) -> AsyncIterator[Running]:
    """The one that all tests share which don't end it."""
    async with met(*served) as found:
        yield found


@asynccontextmanager
async def started(directory: Path, *more: str) -> AsyncIterator[Running]:
    """One of its own."""
    with program(directory, *more) as found:
        async with met(*found) as running:
            yield running


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
    running: Running, model: Model
) -> None:
    prompts = [model.encode(prompt) for prompt in PROMPTS]
    assert len(prompts[-1]) > 2 * PROMPT_PIECE
    expected = [plain_loop(model, prompt, 24) for prompt in prompts]
    completions = running.client.completions
    made = await asyncio.gather(
        *(completions.create(model=NAME, prompt=prompt, max_tokens=24, temperature=0) for prompt in PROMPTS)
    )
    assert [each.choices[0].text for each in made] == expected
    assert [each.usage.prompt_tokens for each in made if each.usage] == [len(prompt) for prompt in prompts]


async def test_the_official_client_gets_right_answers_clear_errors_and_its_stops(running: Running) -> None:
    before = await running.load()
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
    assert (load.answered - before.answered, load.first_tokens - before.first_tokens) == (7, 7)
    assert load.tokens - before.tokens > 7
    assert load.first_token_seconds > before.first_token_seconds
    assert (load.running, load.waiting, load.kv_cache_use) == (0, 0, 0)


def test_characters_of_several_tokens_come_whole(model: Model) -> None:
    text = "日本語 — 🎉🎉 ça"
    stream = model.tokenizer.create_stream()
    pieces = [stream.decode(token) for token in model.encode(text)]
    assert len(pieces) > len(text)
    assert "".join(pieces) == text


async def test_an_answer_whose_client_has_gone_is_given_up(running: Running) -> None:
    before, asked = await running.cancelled(), {"model": NAME, "prompt": "Once upon a time", **ENDLESS}
    async with running.http.post(f"{running.url}/v1/completions", json=asked | {"stream": True}) as gone:
        await gone.content.readuntil(b"\n\n")
    await until(running.idle, what="a stream is given up", seconds=20)
    waiting = asyncio.ensure_future(running.http.post(f"{running.url}/v1/completions", json=asked))
    await until(running.busy, what="the next answer is being made", seconds=20)
    waiting.cancel()
    await until(running.idle, what="an answer that doesn't stream is given up too", seconds=20)
    assert await running.cancelled() == before + 2


async def test_a_drain_lets_answers_end_and_takes_nothing_new(directory: Path) -> None:
    stream = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "stream": True}
    async with started(directory) as running:
        async with running.http.post(f"{running.url}/v1/completions", json=stream) as last:
            first = await last.content.readuntil(b"\n\n")
            assert await running.status("/ping") == 200
            running.process.send_signal(signal.SIGTERM)

            async def draining() -> bool:
                return await running.status("/health") == 503

            await until(draining, what="probes say that nothing new is taken", seconds=20)
            with pytest.raises(InternalServerError, match="finishes its last requests"):
                await running.client.completions.create(model=NAME, prompt="Hello")
            events = (first + await last.read()).decode().split("\n\n")
        assert json.loads(events[-3].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert events[-2] == "data: [DONE]"
        assert await running.exit_code() == 0


async def test_an_answer_that_outlasts_the_drain_ends_with_an_error(directory: Path) -> None:
    stream = {"model": NAME, "prompt": "Once upon a time", **ENDLESS, "stream": True}
    async with started(directory, "--shutdown-timeout", "1") as running:
        async with running.http.post(f"{running.url}/v1/completions", json=stream) as cut:
            await cut.content.readuntil(b"\n\n")
            running.process.send_signal(signal.SIGTERM)
            rest = await cut.read()
        assert b"The engine was stopped before" in rest.split(b"\n\n")[-2]
        assert await running.exit_code() == 0


def test_what_cannot_be_loaded_is_said_in_a_sentence_and_ends_the_program(directory: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        ExitCode.USER_ERROR,
        [
            f"error: {tmp_path} holds no genai_config.json: it is no ONNX model directory. Make one with "
            "python -m onnxruntime_genai.models.builder, or serve Hugging Face directories with engine vllm"
        ],
    )
    with pytest.raises(UserError, match="is 9000, but the model's context is 8192 tokens: write at most that"):
        Model(directory, max_model_len=9000)
    (tmp_path / "genai_config.json").write_bytes((directory / "genai_config.json").read_bytes())
    with pytest.raises(UserError, match=f"onnxruntime can't load the model in {tmp_path}: "):
        Model(tmp_path)
    (tmp_path / "genai_config.json").write_text("{}")
    with pytest.raises(UserError, match="can't be read as onnxruntime-genai's configuration of a language model"):
        Model(tmp_path)


def test_a_cache_that_holds_no_request_is_refused_with_what_would(model: Model) -> None:
    assert model.context == 8192
    assert model.cache_tokens(1) == 2**30 // (2 * 30 * 3 * 64 * 4)
    with pytest.raises(UserError, match="8192 tokens takes 1 GiB of KV cache, which has 0: raise --kv-cache-gib to 1"):
        model.cache_tokens(0)
