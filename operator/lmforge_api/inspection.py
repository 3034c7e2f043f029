"""What a pod that looked at a model's files tells the operator, as its termination message: facts, or what is wrong."""

from pydantic import Field

from lmforge_api.base import StatusModel
from lmforge_api.common import ModelShape


class Inspection(StatusModel):
    """A model's files, looked at without loading them. With a `problem` nothing can load them."""

    problem: str = Field("", description="What is wrong with them, and what to do.")
    format: str = Field("", description="What can load them: HuggingFace, GGUF or ONNX.")
    size_bytes: int = Field(0, description="Size of the weights' files.")
    digest: str = Field("", description="Digest of the manifest, where there is one.")
    shape: ModelShape | None = Field(None, description="Sizes of the model, if its config.json tells them.")
