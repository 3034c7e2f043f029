"""How benches tell their figures: median and spread, ratios of runs that alternated, a table and JSON."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """What was measured again and again."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def row(self) -> Mapping[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 4),
            "minimum": round(min(self.values), 4),
            "maximum": round(max(self.values), 4),
            "values": [round(value, 4) for value in self.values],
        }


def ratios(ours: Sample, theirs: Sample) -> Sample:
    """Ours to theirs, for each pair of neighbours in time: what slows the machine down slows both."""
    values = [mine / other for mine, other in zip(ours.values, theirs.values, strict=True)]
    return Sample(f"{ours.name} / {theirs.name}", "", values)


def publish(title: str, samples: Sequence[Sample], *, target: str, json_file: Path | None = None) -> None:
    """Prints a table, and writes the same as JSON where that is wanted."""
    width = max(len(sample.name) for sample in samples)
    print(f"\n{title} ({os.cpu_count()} cores)")
    print(f"  {'':{width}}  {'median':>10}  {'minimum':>10}  {'maximum':>10}  runs")
    for sample in samples:
        figures = "  ".join(f"{value:10.4g}" for value in (sample.median, min(sample.values), max(sample.values)))
        print(f"  {sample.name:{width}}  {figures}  {len(sample.values):4}  {sample.unit}")
    print(f"  wanted: {target}")
    if json_file:
        content = {"title": title, "cores": os.cpu_count(), "target": target, "samples": [s.row() for s in samples]}
        json_file.write_text(json.dumps(content, indent=2) + "\n")
