"""What names an artifact in an OCI registry (distribution-spec, pulling manifests)."""

import re
from dataclasses import dataclass

REGISTRY = "[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?"
_WORD = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*"
REPOSITORY = f"{_WORD}(/{_WORD})*"
TAG = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
DIGEST = "sha256:[a-f0-9]{64}"

_REFERENCE = re.compile(
    f"oci://(?P<registry>{REGISTRY})/(?P<repository>{REPOSITORY})(:(?P<tag>{TAG})|@(?P<digest>{DIGEST}))"
)


@dataclass(frozen=True)
class Reference:
    """An artifact in a registry, taken apart. One of `tag` and `digest` is empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def version(self) -> str:
        """The tag, or the digest."""
        return self.digest or self.tag

    @property
    def uri(self) -> str:
        """As people write it."""
        return f"oci://{self.registry}/{self.repository}{f'@{self.digest}' if self.digest else f':{self.tag}'}"


def parse(uri: str) -> Reference:
    """Takes apart what the API server has let in. Raises ValueError for anything else."""
    found = _REFERENCE.fullmatch(uri)
    if found is None:
        raise ValueError(f"{uri}: write oci://<registry>/<repository>:<tag>, or @sha256:<digest> in place of the tag")
    return Reference(found["registry"], found["repository"], found["tag"] or "", found["digest"] or "")
