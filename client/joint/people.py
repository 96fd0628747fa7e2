"""Whose rows a joint study computes with: the hospital tells its patients, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wardround.client.data.hospital import Hospital
from wardround.client.joint.answer import rows_of
from wardround.common.joint.known import make_joint


@dataclass(frozen=True)
class LinkedPeople:
    """The persons of a link.

    patients : None where the data don't say whose a row is
    version : a number of the link, below 0: equal ones are of the same persons
    """

    patients: Sequence[str] | None
    version: int


def linked_people(hospital: Hospital) -> LinkedPeople | None:
    """Of the link that the present study computes on; None of a study that has none.

    Raises JointRefused where the link can't be opened.
    """
    name = getattr(hospital.config.procedure.settings, "link", None)
    if not isinstance(name, str) or hospital.links is None:
        return None
    if not make_joint(hospital.config, hospital.task).reads(hospital.name):
        return None
    rows = rows_of(hospital)
    link = hospital.links.open(name, hospital.study, rows.keys)
    people = hospital.task.people(rows)
    patients = None if people is None else [str(people[row]) for row in link.rows]
    return LinkedPeople(patients, -1 - int.from_bytes(link.digest[:6], "big"))
