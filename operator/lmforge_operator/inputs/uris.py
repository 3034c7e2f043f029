"""Where inputs are, as a pod sees them: claims become mounts, everything else stays the URI that it is."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from lmforge_operator.errors import UserError

CLAIM_MOUNTS = "/mnt/pvc"


def claims_of(uris: Iterable[str], *, store_claim: str) -> tuple[str, ...]:
    """Claims to mount besides the store, each once, in order."""
    claims = (urlsplit(uri).netloc for uri in uris if urlsplit(uri).scheme == "pvc")
    return tuple(dict.fromkeys(claim for claim in claims if claim != store_claim))


def in_pod(uri: str, *, store_claim: str, store_mount: str) -> str:
    """The URI that the workload opens.

    Raises UserError when the path leaves its claim.
    """
    parts = urlsplit(uri)
    if parts.scheme != "pvc":
        return uri
    if ".." in parts.path.split("/"):
        raise UserError(f"{uri} leaves its claim: write the path without '..'")
    mount = store_mount if parts.netloc == store_claim else f"{CLAIM_MOUNTS}/{parts.netloc}"
    return f"file://{mount}{parts.path.rstrip('/')}"
