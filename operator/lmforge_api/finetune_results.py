"""What a FineTune has found out and left, as its pods tell it and its status shows it."""

from pydantic import Field

from lmforge_api.base import StatusModel
from lmforge_api.common import ArtifactStatus


class Rows(StatusModel):
    """What became of the dataset's rows."""

    read: int = Field(0, description="Rows of all files.")
    train: int = Field(0, description="Rows that are trained on.")
    evaluation: int = Field(0, description="Rows that are evaluated on.")
    empty: int = Field(0, description="Rows left out since nothing is in them.")
    oversize: int = Field(0, description="Rows with more tokens than sequenceLength.")
    examples: list[str] = Field(
        [], max_length=10, description="Where the first empty and oversize ones are: chats.csv row 17: empty."
    )


class TrainedAdapter(ArtifactStatus):
    """A LoRA adapter as PEFT writes it."""

    rank: int = Field(0, description="Its rank.")
    target_modules: list[str] = Field([], description="Names of the layers that it changes.")


class Published(StatusModel):
    """The artifact in a registry."""

    uri: str = Field(description="What output.publish names: oci://<registry>/<repository>:<tag>.")
    digest: str = Field(
        description="Digest of its OCI manifest, which pins it: oci://<registry>/<repository>@<digest>."
    )


class Trainable(StatusModel):
    """How much of the model is trained."""

    parameters: int = Field(0, description="Parameters that are trained.")
    of: int = Field(0, description="Parameters in all, the trained ones among them.")
    share: str = Field("", description="The former of the latter, e.g. 0.72%.")


class BeforeAndAfter(StatusModel):
    """The model on the evaluation rows, before the first step and by the newest evaluation."""

    loss_before: str = Field("", description="Mean over tokens, in nats, before the first step.")
    loss: str = Field("", description="The same by the newest evaluation.")
    perplexity_before: str = Field("", description="exp(lossBefore).")
    perplexity: str = Field("", description="exp(loss).")
