"""What a hospital holds back of what a plan asks: columns, codes of records, its machine.

A plan that names what isn't allowed is refused with that name. One that takes every column gets
those that are allowed, where a source makes a snapshot (``client/sources``); a file that is read as
it lies can't leave any out, so then such a plan is refused as well.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic.fields import FieldInfo

from wardround.client.site.policy import SitePolicy
from wardround.common.config.load import Config
from wardround.common.memory import most_bytes
from wardround.common.settings import CohortTable
from wardround.common.settings.concepts import OMOP
from wardround.common.text import normal_text, one_line

_ALL = ["*"]
_EVERY = "numeric"
_OMOP = f"{OMOP}:"
_ALL_OMOP = ("", OMOP, _OMOP)
_COLUMN_KEYS = ("columns", "files")


def check_held_back(
    site: SitePolicy, config: Config, taken: bool, patients: str | None = None
) -> None:
    """Raise PolicyRefused, naming key and what is asked for, unless the plan stays within.

    taken : the study is computed on a snapshot, from which the others are left out
    patients : the column that says whose a row is, where this hospital says it
    """
    if patients is not None and normal_text(patients) in asked_columns(config, ("patient_id",)):
        raise site.refused(
            "patient_id",
            f"the study asks for column '{one_line(patients, 100)}', which says whose a row is "
            "and is no input; name it as task.columns.patient_id alone",
            f"the study asks for column '{one_line(patients, 100)}', which this hospital gives to "
            "none; ask for another",
        )
    if site.columns != _ALL:
        _check_columns(site, config, taken)
    if site.codes != _ALL and config.cohort is not None:
        for concept in asked_codes(config.cohort):
            if not covers(site.codes, concept):
                raise site.refused(
                    "codes",
                    f"this hospital allows {_listed(site.codes)}, the study asks for '{concept}'",
                    f"the study asks for '{concept}', which this hospital's rules don't allow",
                )
    _check_needs(site, config)


def _check_columns(site: SitePolicy, config: Config, taken: bool) -> None:
    for name in asked_columns(config):
        if not is_allowed(site.columns, name):
            raise site.refused(
                "columns",
                f"this hospital allows {_listed(site.columns)}, the study asks for column "
                f"'{one_line(name, 100)}'",
                f"the study asks for column '{one_line(name, 100)}', which this hospital's rules "
                "don't allow",
            )
    if not taken:
        what = "every column" if takes_every_column(config) else ""
        what = "what its own task's file reads" if ":" in config.task.name else what
        if what:
            raise site.refused(
                "columns",
                f"this hospital allows {_listed(site.columns)}, the study takes {what}, and a "
                "file that is read as it lies leaves none out; add snapshot = true to its "
                "[data.NAME]",
                f"the study takes {what}, and this hospital's rules don't allow that",
            )


def asked_columns(config: Config, without: tuple[str, ...] = ()) -> list[str]:
    """The columns that a study's task names, in any role but some, and the variables of a cohort,
    which says itself whose a row is."""
    tables = [config.task.options.get(key) for key in _COLUMN_KEYS]
    names = [*_unnamed(config), *map(str, config.task.options.get("heads") or ())]
    if config.cohort is not None:
        names, without = [*names, *config.cohort.variables], (*without, "patient_id")
    if config.judgement is not None:
        names += config.judgement.groups
    without = (*without, "ignore")
    names += [
        one for table in tables if isinstance(table, Mapping) for one in _names(table, without)
    ]
    return [name for name in dict.fromkeys(map(normal_text, names)) if name != "*"]


def takes_every_column(config: Config) -> bool:
    """Whether the columns that aren't named are asked for, too: also beside a cohort, which a file
    that is read as it lies isn't made of."""
    if config.task.name != "tabular":
        return False
    columns = config.task.options.get("columns", {})
    return "*" in columns.get(_EVERY, ["*"])


def _unnamed(config: Config) -> Iterator[str]:
    """The columns that a task reads where the study says of none what it is."""
    from wardround.common.tasks.options import Columns
    from wardround.common.tasks.text.options import TextColumns

    options = config.task.options
    named = options.get("columns") or {}
    fields: dict[str, FieldInfo] = {}
    if config.task.name == "tabular" and options.get("kind") != "survival":
        fields = {"target": Columns.model_fields["target"]}
    elif config.task.name == "text":
        kinds = {"sequence": ("text", "label"), "pairs": ("text", "answer"), "labels": ("text",)}
        roles = kinds.get(str(options.get("kind")), ())
        fields = {role: TextColumns.model_fields[role] for role in roles}
    yield from (str(field.default) for role, field in fields.items() if role not in named)


def _names(table: Mapping[str, Any], without: tuple[str, ...]) -> Iterator[str]:
    """Of ``[task.columns]``: values of keys, but keys of tables by column."""
    for key, value in table.items():
        if key in without:
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping | list | tuple):
            yield from (str(one) for one in value)


def asked_codes(cohort: CohortTable) -> list[str]:
    """All concepts that a cohort asks records by."""
    found = list(cohort.index.concepts)
    for variable in cohort.variables.values():
        found += [*variable.concepts, *(c for codes in variable.categories.values() for c in codes)]
    return list(dict.fromkeys(found))


def is_allowed(patterns: list[str], name: str) -> bool:
    """Whether a column is among those that may be used."""
    return any(fnmatchcase(normal_text(name), normal_text(one)) for one in patterns)


def covers(patterns: list[str], concept: str) -> bool:
    """Whether every code that a concept means is allowed: of one that ends in a star, all that
    begin so. A star of OMOP means descendants, whose ids may begin in any way, for a study as in a
    pattern: only the same one covers it, and a pattern with more than that star is of ids.

    >>> covers(["ICD10:E1*"], "ICD10:E11*"), covers(["ICD10:E1?"], "ICD10:E1*")
    (True, False)
    >>> covers(["OMOP:150*"], "OMOP:150"), covers(["OMOP:150*"], "OMOP:1503297")
    (True, False)
    """
    if concept.startswith(_OMOP):
        every = [one for one in patterns if one.rstrip("*") in _ALL_OMOP and one.endswith("*")]
        exact = {one for one in patterns if one.startswith(_OMOP)}
        exact |= {one.removesuffix("*") for one in exact}
        return bool(every) or concept in exact
    if not concept.endswith("*"):
        return any(fnmatchcase(concept, one) for one in patterns)
    begins = concept.removesuffix("*")
    return any(one.endswith("*") and fnmatchcase(begins, one) for one in patterns)


def _check_needs(site: SitePolicy, config: Config) -> None:
    """What the study says it takes, against this hospital's limits and what its machine has."""
    needs = config.needs
    if needs is None:
        return
    memory, disk = most_bytes() / 2**30, shutil.disk_usage(site.folder).free / 2**30
    limits = (
        ("max_memory_gb", "memory", needs.memory_gb, site.max_memory_gb, memory),
        ("max_disk_gb", "disk", needs.disk_gb, site.max_disk_gb, disk),
        ("max_hours", "hours", needs.hours, site.max_hours, None),
    )
    for key, what, asked, limit, there in limits:
        if asked is None:
            continue
        unit = "" if what == "hours" else f" GiB of {what}"
        unit = " hours" if what == "hours" else unit
        if limit is not None and asked > limit:
            raise site.refused(
                key, f"this hospital allows {limit:g}{unit}, the study needs {asked:g}"
            )
        if there is not None and asked > there:
            raise site.refused(
                key,
                f"this machine has {there:.1f}{unit}, the study needs {asked:g}",
                f"the study needs {asked:g}{unit}, more than this hospital's machine has",
            )
    here = config.training.device
    if needs.gpu and not here.startswith(("cuda", "mps")):
        told = "the study needs a GPU, and this hospital computes on none"
        message = f"the study needs a GPU, this hospital computes on {here}"
        raise site.refused("device", message, told)


def _listed(patterns: list[str]) -> str:
    shown = ", ".join(patterns[:10]) or "none"
    return shown + (f" and {len(patterns) - 10} more" if len(patterns) > 10 else "")
