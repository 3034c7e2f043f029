"""Kubernetes objects as JSON."""

from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]
"""One that is made here, or that was read and is ours to change."""
ReadManifest = Mapping[str, Any]
"""One that is only looked at."""
