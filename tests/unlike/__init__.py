"""Hospitals that differ, for every kind of task: the tests' common consortium.

Most faults that use has found came from hospitals that weren't like the others. So here one lacks a
class or a category, one has a single class, one has one row and one has two, one has a constant,
an empty and a wide column, one writes the code 1 as 1.0, one measures in another unit, one has a
prevalence of 0.2 %, some have several rows of a patient or rows without a target, and file names
are what hospitals call their files. Still every consortium here can be trained on: a run over it
that stops, warns of nothing or leaves a hospital out without a word has a fault.
"""

from __future__ import annotations

from pathlib import Path

from tests.unlike.base import Consortium
from tests.unlike.images import flat_images, volumes
from tests.unlike.tables import binary, multiclass, regression, survival
from tests.unlike.texts import answers, classes_of_text, entities, heads_of_text

__all__ = ["MAKERS", "Consortium", "make_consortium"]

MAKERS = {
    "binary": binary,
    "multiclass": multiclass,
    "regression": regression,
    "survival": survival,
    "images2d": flat_images,
    "images3d": volumes,
    "entities": entities,
    "texts": classes_of_text,
    "labels": heads_of_text,
    "answers": answers,
}
"""Task kind to the function that writes its consortium into a new folder."""


def make_consortium(kind: str, folder: Path) -> Consortium:
    """Write the consortium of this kind below ``folder`` (made if it isn't there)."""
    folder.mkdir(parents=True, exist_ok=True)
    return MAKERS[kind](folder)
