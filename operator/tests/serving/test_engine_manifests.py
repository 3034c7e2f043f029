"""llama-server's, trtllm-serve's and our ONNX server's command lines, and what every engine's pod has in common."""

import ast
import json
from typing import Any, get_args

import pytest
from manifest_builders import ARTIFACT, SHAPE, command, engine, found
from serving_builders import spec

from lmforge_api.inferenceservice_engines import ABILITIES, EngineName
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving.engines import ENGINES
from lmforge_operator.serving.engines.engine import UNNOTICED_SECONDS
from lmforge_operator.settings import Images

GGUF: Manifest = {"engine": "llamacpp", "model": {"uri": "pvc://models/tiny.gguf"}}
ONNX: Manifest = {"engine": "onnxruntime", "model": {"uri": "pvc://models/tiny"}}
ON_GPU: Manifest = {"engine": "tensorrt", "resources": {"accelerator": "nvidia.com/gpu", "count": 1}}
TWO_GPUS: Manifest = {"resources": {"accelerator": "nvidia.com/gpu", "count": 2}}
SMALLEST: dict[str, Manifest] = {"vllm": {}, "llamacpp": GGUF, "onnxruntime": ONNX, "tensorrt": ON_GPU}


def test_the_words_of_the_api_are_the_engines_of_the_operator() -> None:
    assert set(get_args(EngineName)) == set(ABILITIES) == set(ENGINES) == set(SMALLEST)
    assert {name: each.name for name, each in ENGINES.items()} == {name: name for name in ENGINES}


@pytest.mark.parametrize("changes", SMALLEST.values(), ids=SMALLEST.keys())
def test_every_engine_answers_once_before_it_is_ready_and_is_looked_at_in_the_same_way(changes: Manifest) -> None:
    container = engine(**changes)
    program, *arguments = container["startupProbe"]["exec"]["command"][2:]
    assert ast.parse(program)
    assert arguments == ["http://127.0.0.1:8000", "chat"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]


def test_every_engine_has_an_image_of_its_own() -> None:
    images = Images()
    assert len({each.image(images, spec()) for each in ENGINES.values()}) == len(ENGINES)


@pytest.mark.parametrize("name", ["llamacpp", "tensorrt"])
def test_an_engine_that_cuts_its_streams_is_told_to_go_only_when_it_is_idle(name: str) -> None:
    python, option, program, url, *rest = engine(**SMALLEST[name], drainSeconds=60)["lifecycle"]["preStop"]["exec"][
        "command"
    ]
    assert (python, option) == ("python", "-c")
    assert ast.parse(program)
    assert url == f"http://127.0.0.1:8000{ENGINES[name].metrics_path}"
    assert rest[:2] == [str(UNNOTICED_SECONDS), "60"]
    assert len(rest) == 4


@pytest.mark.parametrize("name", ["vllm", "onnxruntime"])
def test_an_engine_that_lets_its_streams_end_drains_by_itself(name: str) -> None:
    assert engine(**SMALLEST[name])["lifecycle"]["preStop"] == {"sleep": {"seconds": UNNOTICED_SECONDS}}


def test_llama_server_serves_a_claims_file_under_the_services_name() -> None:
    assert command(**GGUF, resources={"cpu": "2"}) == (
        "llama-server --model /mnt/pvc/models/tiny.gguf --alias chat --host 0.0.0.0 --port 8000 --metrics "
        "--threads 2 --threads-batch 2 --parallel 4 --ctx-size 0 --kv-unified --cache-prompt --cache-ram 1024"
    )


LLAMA_SERVER: dict[str, tuple[Manifest, str]] = {
    "an image's file": ({"model": {"uri": "file:///models/tiny.gguf"}}, "--model /models/tiny.gguf "),
    "a context for each request": (
        {"engineArgs": {"maxModelLen": 2048}},
        "--parallel 4 --ctx-size 8192 --no-kv-unified",
    ),
    "more requests at a time": (
        {"engineArgs": {"maxModelLen": 512, "extra": {"parallel": "16"}}},
        "--parallel 16 --ctx-size 8192 --no-kv-unified --cache-prompt --cache-ram 1024",
    ),
    "no prefix caching": ({"engineArgs": {"prefixCaching": False}}, "--no-cache-prompt --cache-ram 0"),
    "kept prompts": ({"engineArgs": {"kvCache": 2}}, "--cache-prompt --cache-ram 2048"),
    "guessed tokens": (
        {"engineArgs": {"speculative": {"tokens": 5, "lookup": 2}}},
        "--spec-type ngram-simple --spec-ngram-simple-size-n 2 --spec-ngram-simple-size-m 5",
    ),
    "rows over accelerators": ({**TWO_GPUS, "parallelism": {"tensor": 2}}, "--split-mode row"),
    "layers over accelerators": ({**TWO_GPUS, "parallelism": {"pipeline": 2}}, "--split-mode layer"),
    "more arguments": (
        {"engineArgs": {"extra": {"cache-type-k": "q8_0", "embeddings": ""}}},
        "--cache-type-k q8_0 --embeddings",
    ),
}


@pytest.mark.parametrize(("changes", "expected"), LLAMA_SERVER.values(), ids=LLAMA_SERVER.keys())
def test_what_the_spec_says_reaches_llama_server(changes: Manifest, expected: str) -> None:
    assert expected in command(**{**GGUF, **changes})


def test_our_onnx_server_serves_a_claims_directory_under_the_services_name() -> None:
    assert command(**ONNX, resources={"cpu": "2"}, drainSeconds=60) == (
        "python -m lmforge_workloads.serve.onnx --model /mnt/pvc/models/tiny --served-model-name chat --host 0.0.0.0 "
        "--port 8000 --shutdown-timeout 60 --threads 2 --kv-cache-gib 1"
    )
    sized = {"maxModelLen": 2048, "kvCache": 2, "extra": {"max-num-seqs": "8"}}
    assert command(**ONNX, engineArgs=sized).endswith("--kv-cache-gib 2 --max-model-len 2048 --max-num-seqs 8")


def test_its_kv_cache_is_in_float32() -> None:
    shape = {**SHAPE, "layers": 32, "kvHeads": 8, "headSize": 128, "contextLength": 8192}
    artifact = {**ARTIFACT, "format": "ONNX", "shape": shape}
    model = found({"status": {"phase": "Succeeded", "artifact": artifact}}, engine="onnxruntime")
    assert "one request of 8192 tokens takes 2 GiB of KV cache, which has 1 GiB" in model.waiting_for


def trtllm(**changes: Any) -> tuple[dict[str, Any], str]:
    """The options that are written down, and the command line that the program becomes."""
    python, option, program, options, *rest = engine(**{**ON_GPU, **changes})["command"]
    assert (python, option) == ("python", "-c")
    assert ast.parse(program)
    return json.loads(options), " ".join(rest)


def test_trtllm_serve_serves_a_claims_directory_and_measures_what_is_scraped() -> None:
    options, line = trtllm()
    assert line == (
        "trtllm-serve serve /mnt/pvc/models/tiny --served_model_name chat --host 0.0.0.0 --port 8000 "
        "--backend pytorch --config /tmp/options.yaml"
    )
    assert options == {
        "dtype": "auto",
        "enable_iter_perf_stats": True,
        "kv_cache_config": {"enable_block_reuse": True},
        "return_perf_metrics": True,
    }


TRTLLM_LINES: dict[str, tuple[Manifest, str]] = {
    "a hub's model": ({"model": {"uri": "hf://org/name@v2"}}, "trtllm-serve serve org/name --revision v2 "),
    "a split": ({**TWO_GPUS, "parallelism": {"tensor": 2}}, "--tp_size 2"),
    "stages": ({**TWO_GPUS, "parallelism": {"pipeline": 2}}, "--pp_size 2"),
    "a context": ({"engineArgs": {"maxModelLen": 2048}}, "--max_seq_len 2048"),
    "more arguments": ({"engineArgs": {"extra": {"max-batch-size": "64"}}}, "--max_batch_size 64"),
}
TRTLLM_OPTIONS: dict[str, tuple[Manifest, Manifest]] = {
    "arithmetic": ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
    "a share of memory": (
        {"gpuMemoryUtilization": 0.5, "prefixCaching": False},
        {"kv_cache_config": {"enable_block_reuse": False, "free_gpu_memory_fraction": 0.5}},
    ),
    "chunks": ({"chunkedPrefill": True}, {"enable_chunked_prefill": True}),
    "guessed tokens": (
        {"speculative": {"tokens": 5, "lookup": 2}},
        {"speculative_config": {"decoding_type": "NGram", "max_draft_len": 5, "max_matching_ngram_size": 2}},
    ),
}


@pytest.mark.parametrize(("changes", "expected"), TRTLLM_LINES.values(), ids=TRTLLM_LINES.keys())
def test_what_the_spec_says_reaches_trtllm_serve(changes: Manifest, expected: str) -> None:
    assert expected in trtllm(**changes)[1]


@pytest.mark.parametrize(("arguments", "expected"), TRTLLM_OPTIONS.values(), ids=TRTLLM_OPTIONS.keys())
def test_what_trtllm_serve_has_no_argument_for_is_among_its_options(arguments: Manifest, expected: Manifest) -> None:
    options, _ = trtllm(engineArgs=arguments)
    assert {name: options[name] for name in expected} == expected


FORMATS: dict[str, tuple[str, str, str]] = {
    "a GGUF file under vllm": (
        "vllm", "GGUF",
        "engine vllm loads Hugging Face directories, and this model is in the format GGUF: write engine: llamacpp",
    ),
    "ONNX under vllm": (
        "vllm", "ONNX",
        "engine vllm loads Hugging Face directories, and this model is in the format ONNX: write engine: onnxruntime",
    ),
    "a directory under onnxruntime": (
        "onnxruntime", "HuggingFace",
        "engine onnxruntime loads ONNX directories (genai_config.json), and this model is in the format HuggingFace: "
        "write engine: vllm",
    ),
    "a directory under llamacpp": (
        "llamacpp", "HuggingFace",
        "engine llamacpp loads GGUF files, and this model is in the format HuggingFace: write engine: vllm",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "form", "message"), FORMATS.values(), ids=FORMATS.keys())
def test_an_artifact_in_another_engines_format_names_that_engine(name: str, form: str, message: str) -> None:
    model = found({"status": {"phase": "Succeeded", "artifact": {**ARTIFACT, "format": form}}}, engine=name)
    assert (model.reason, model.waiting_for) == ("WrongFormat", message)


def test_llama_server_gets_its_cache_beside_the_one_that_is_set_aside() -> None:
    long = {**SHAPE, "layers": 32, "kvHeads": 32, "headSize": 128, "contextLength": 4096}
    artifact = {**ARTIFACT, "format": "GGUF", "shape": long}
    assert found({"status": {"phase": "Succeeded", "artifact": artifact}}, engine="llamacpp").uri
