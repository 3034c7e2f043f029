"""Where inputs are, as a pod sees them: claims become mounts, everything else stays the URI that it is."""

from posixpath import normpath
from urllib.parse import urlsplit

CLAIM_MOUNTS = "/mnt/pvc"


def claim_of(uri: str) -> str | None:
    """The claim of a `pvc://claim/path` URI."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme == "pvc" else None


def in_pod(uri: str) -> str:
    """The URI that the workload opens.

    Raises ValueError when the path leaves its claim.
    """
    parts = urlsplit(uri)
    if parts.scheme != "pvc":
        return uri
    path = normpath("/" + parts.path)
    if ".." in parts.path.split("/"):
        raise ValueError(f"{uri} leaves its claim: write the path without '..'")
    return f"file://{CLAIM_MOUNTS}/{parts.netloc}{path if path != '/' else ''}"
