"""Honesty marks: what a reader must know before believing a figure, said once each, near the top."""

import re
from dataclasses import dataclass
from typing import Final

from bench.results import Results
from reports.figures import one_line

_KINDS: Final = {
    "generator": "Generator",
    "noisy": "Noisy machine",
    "control": "A/A control",
    "rounds": "Few rounds",
    "clock": "Clock",
    "durability": "Durability",
    "versions": "Versions",
    "unsteady": "Not steady",
    "schedule": "Schedule",
}
"""Each kind of mark in words."""


@dataclass(frozen=True)
class MarkLine:
    """One mark: its kind in words and what it says."""

    kind: str
    text: str


def lines(results: Results) -> tuple[MarkLine, ...]:
    """The run's marks in their order; those of a kind that differ in figures only are told as the first of them."""
    kinds = dict.fromkeys(each.kind for each in results.marks)
    return tuple(
        MarkLine(_KINDS[kind], text)
        for kind in kinds
        for text in collapsed([one_line(each.text) for each in results.marks if each.kind == kind])
    )


def collapsed(notes: list[str]) -> list[str]:
    """Notes that differ only in figures and in what stands in brackets, as the first of them and their number."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"\([^()]*\)|[\d.]+", "", note), []).append(note)
    return [
        own[0] if len(own) == 1 else f"{own[0].rstrip('.')} (and {len(own) - 1} more like it)."
        for own in alike.values()
    ]
