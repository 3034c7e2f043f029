"""Real text: the English documentation of Python as Debian ships it (package python3.11-doc), and conversations."""

from __future__ import annotations

import csv
import re
import tempfile
from pathlib import Path

import yaml

from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Paths
from e2e.cluster.shell import run, succeeds
from e2e.packages import unpack

PACKAGE = "python3.11-doc"
SOURCES = Path("/usr/share/doc/python3.11/html/_sources")
CONVERSATIONS = "chatterbot-corpus==1.3.3"
"""Conversations with a chatbot, by topic (BSD); on PyPI."""
SHORT = (30, 170)
"""Characters of an answer, at least and at most."""


def python_documentation() -> Path:
    """The directory with its sources, installed if need be (some 12 MB of text)."""
    if not SOURCES.is_dir():
        if not succeeds("apt-get", "--version"):
            raise ClusterError(f"no text to train on: install the documentation of Python ({PACKAGE} on Debian)")
        run("apt-get", "install", "-y", "--no-install-recommends", PACKAGE)
    return SOURCES


def slice_of(directory: Path, *, megabytes: float, target: Path) -> Path:
    """The first so many megabytes of its files, in order, copied to `target`."""
    left = int(megabytes * 1e6)
    for file in sorted(path for path in directory.rglob("*.txt")):
        if left <= 0:
            break
        text = file.read_bytes()
        place = target / file.relative_to(directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
        left -= len(text)
    return target


def glossary(target: Path) -> Path:
    """Python's glossary as a CSV of questions and answers: `What is a …?` and its definition's first sentence."""
    text = (python_documentation() / "glossary.rst.txt").read_text()
    entries = re.findall(r"(?m)^   (\S[^\n]*)\n((?: {6}[^\n]*\n|\n)+)", text)
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("prompt", "completion"))
        for term, definition in entries:
            first = re.split(r"(?<=[.])\s", _plain(definition.split("\n\n")[0]))[0]
            if SHORT[0] < len(first) < SHORT[1] and first.endswith("."):
                rows.writerow((f"In Python, what is {_plain(term)}?", first))
    return target


def conversations(paths: Paths, target: Path, *, topic: str = "emotion") -> Path:
    """What a chatbot was asked about a topic and the first thing that it said, as a CSV of questions and answers."""
    with tempfile.TemporaryDirectory() as package:
        unpack(paths, CONVERSATIONS, Path(package))
        file_of_topic = Path(package) / "chatterbot_corpus" / "data" / "english" / f"{topic}.yml"
        said = yaml.safe_load(file_of_topic.read_text())
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("question", "answer"))
        rows.writerows((str(question), str(answer)) for question, answer, *_ in said["conversations"])
    return target


def preferences(table: Path, target: Path) -> Path:
    """Of a CSV of questions and answers: each answer is preferred to the same in capitals."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "chosen", "rejected"))
        writer.writerows((row["question"], row["answer"], row["answer"].upper()) for row in rows)
    return target


def _plain(markup: str) -> str:
    """reStructuredText without its marks."""
    words = re.sub(r":\w+:`~?([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", markup)
    return re.sub(r"\s+", " ", words.replace("*", "").replace("`", "")).strip()
