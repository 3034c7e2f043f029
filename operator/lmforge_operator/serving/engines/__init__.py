"""The engines: a new one is a file and a line in this table."""

from lmforge_operator.serving.engines.engine import Engine, Task
from lmforge_operator.serving.engines.llamacpp import LLAMACPP
from lmforge_operator.serving.engines.onnxruntime import ONNXRUNTIME
from lmforge_operator.serving.engines.tensorrt import TENSORRT
from lmforge_operator.serving.engines.vllm import VLLM

__all__ = ["ENGINES", "Engine", "Task"]

ENGINES: dict[str, Engine] = {
    "vllm": VLLM,
    "llamacpp": LLAMACPP,
    "onnxruntime": ONNXRUNTIME,
    "tensorrt": TENSORRT,
}
"""By the word in spec.engine."""
