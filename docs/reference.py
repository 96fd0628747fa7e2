"""Makes the tables of settings and the command reference: ``python -m docs.reference``.

A table stands between two comments, ``<!-- keys: NAME -->`` and ``<!-- end -->``, in a page that is
otherwise written by hand; ``docs/commands.md`` is made whole. A test holds the pages equal to what
this writes.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs import sent
from wardround.client.site.policy import SitePolicy
from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.pacs.settings import (
    DicomWebSource,
    DimseSource,
    Limits,
    ListColumns,
    Query,
    SeriesChoice,
)
from wardround.client.sources.settings import FileSource
from wardround.client.sources.sql.settings import SqlSource
from wardround.common.config.load import Config
from wardround.common.identifiers import RULES
from wardround.common.process.main import app
from wardround.common.settings.analyses import ANALYSES
from wardround.common.settings.cohort import CohortIndex, CohortVariable
from wardround.common.settings.dashboard import DashboardTable
from wardround.common.settings.effects import Effect
from wardround.common.settings.joint import LinkageOptions, SplitOptions, VerticalOptions
from wardround.common.settings.judgement import JudgementTable
from wardround.common.settings.known_effects import EFFECTS
from wardround.common.settings.procedure import (
    CalibrateOptions,
    DescribeOptions,
    EvaluateOptions,
    MonitorOptions,
    OwnOptions,
)
from wardround.common.settings.protection import SharesTable
from wardround.common.settings.statistics import StatisticsOptions
from wardround.common.settings.strategies import STRATEGIES
from wardround.common.settings.teacher import TeacherTable
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.imaging.options import (
    AugmentOptions,
    FileOptions,
    ImagingOptions,
    NetworkOptions,
)
from wardround.common.tasks.linked import LinkedOptions, PartyColumns
from wardround.common.tasks.linked.images import ImageColumn
from wardround.common.tasks.options import Columns, ModelOptions, TabularOptions
from wardround.common.tasks.text.options import TextColumns, TextOptions
from wardround.simulations.search.values import toml_text

FOLDER = Path(__file__).parent
_MARK = re.compile(r"<!-- keys: ([\w. ]+) -->\n.*?<!-- end -->", re.S)
_HEAD = "| key | default | allowed | meaning |\n|---|---|---|---|\n"
_COMMANDS = """\
# Commands

Made from the command line itself (`python -m docs.reference`); `wardround COMMAND --help` says the
same. Keys of `federation.toml` are in [configuration](configuration.md).
"""
_TABLES: dict[str, type[BaseModel]] = {
    "source fhir": FhirSource,
    "cohort.index": CohortIndex,
    "cohort.variables": CohortVariable,
    "source omop": OmopSource,
    "source file": FileSource,
    "source sql": SqlSource,
    "source dicomweb": DicomWebSource,
    "source dicom": DimseSource,
    "archive columns": ListColumns,
    "archive query": Query,
    "archive series": SeriesChoice,
    "archive limits": Limits,
    "privacy.shares": SharesTable,
    "procedure describe": DescribeOptions,
    "procedure evaluate": EvaluateOptions,
    "procedure calibrate": CalibrateOptions,
    "procedure monitor": MonitorOptions,
    "procedure own": OwnOptions,
    "procedure statistics": StatisticsOptions,
    "procedure trees": TreesOptions,
    "procedure linkage": LinkageOptions,
    "procedure split": SplitOptions,
    "procedure vertical": VerticalOptions,
    "task.parties.NAME.images": ImageColumn,
    **{f"analysis {kind}": options for kind, options in ANALYSES.items()},
    "task tabular": TabularOptions,
    "task.columns": Columns,
    "task.dialect": Dialect,
    "task.model": ModelOptions,
    "task imaging": ImagingOptions,
    "imaging task.files": FileOptions,
    "imaging task.model": NetworkOptions,
    "imaging task.augment": AugmentOptions,
    "task linked": LinkedOptions,
    "task.parties": PartyColumns,
    "task text": TextOptions,
    "text task.columns": TextColumns,
}
"""Tables within tables, and those of the built-in tasks, by what stands in the page."""


def pages() -> dict[Path, str]:
    """Every page that is made, or has a part that is, with the text that it should have."""
    made = {FOLDER / "commands.md": _commands()}
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text("utf-8")
        if _MARK.search(text):
            made[path] = _MARK.sub(lambda found: _block(found[1]), text)
    return made


def _block(name: str) -> str:
    return f"<!-- keys: {name} -->\n{_table(name)}<!-- end -->"


def _table(name: str) -> str:
    if name == "strategies":
        return _strategies()
    if name == "identifier rules":
        return _identifier_rules()
    if name in sent.TABLES:
        return sent.table(name)
    if name == "site.toml":
        return _HEAD + "".join(_rows(SitePolicy, ()))
    if name in _TABLES:
        return _HEAD + "".join(_rows(_TABLES[name], getattr(_TABLES[name], "effects", ())))
    if name == "judgement":
        return _HEAD + "".join(_rows(JudgementTable, ()))
    if name == "teacher":
        return _HEAD + "".join(_rows(TeacherTable, ()))
    if name == "server.dashboard":
        return _HEAD + "".join(_rows(DashboardTable, ()))
    (model, *_) = _kinds(Config.model_fields[name].annotation)
    assert isinstance(model, type) and issubclass(model, BaseModel)
    below = [
        Effect(e.key.partition(".")[2], e.switch.removeprefix(f"{name}."), e.values, e.but)
        for e in EFFECTS
        if e.key.startswith(f"{name}.")
    ]
    return _HEAD + "".join(_rows(model, below))


def _rows(model: type[BaseModel], effects: Iterable[Effect]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        if _is_table(field.annotation):
            continue  # tables of their own
        needs = [effect.needs for effect in effects if effect.key == key]
        meaning = "; ".join([part for part in (field.description, *needs) if part])
        yield f"| `{key}` | {_default(field)} | {_allowed(field)} | {meaning} |\n"


def _is_table(annotation: Any) -> bool:
    """Whether a key holds a table, maybe none, or a list of tables."""
    if get_origin(annotation) is list:
        (annotation,) = get_args(annotation)
    kinds = [one for one in _kinds(annotation) if one is not type(None)]
    return all(isinstance(one, type) and issubclass(one, BaseModel) for one in kinds)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{toml_text(value)}`"


def _allowed(field: FieldInfo) -> str:
    """Which values the key takes, in words."""
    lists = [kind for kind in _kinds(field.annotation) if get_origin(kind) is list]
    if lists:
        (item,) = get_args(lists[0])
        items = re.sub(r"^(text|whole number)\b", r"\1s", _values(item, _of_annotated(item)))
        return f"list of {items}{_length(field.metadata)}"
    return _values(field.annotation, field.metadata)


def _values(annotation: Any, metadata: list[Any]) -> str:
    kinds = [kind for kind in _kinds(annotation) if kind is not type(None)]
    if words := [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]:
        return ", ".join(f"`{toml_text(word).strip(chr(34))}`" for word in words)
    if bool in kinds:
        return "`true`, `false`"
    names = {int: "whole number", float: "number", str: "text", dict: "table"}
    tuples = [get_args(kind) for kind in kinds if get_origin(kind) is tuple]
    pairs = [f"list of {len(k)} {'days' if k[0] is date else 'numbers'}" for k in tuples]
    name = " or ".join([*pairs, *(names[get_origin(k) or k] for k in kinds[len(pairs) :])])
    return f"{name}{_bounds(metadata)}"


def _of_annotated(annotation: Any) -> list[Any]:
    """The bounds that stand in an ``Annotated`` type."""
    parts = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [one for part in parts for one in getattr(part, "metadata", [part])]


def _length(metadata: list[Any]) -> str:
    low, high = "", ""
    for one in metadata:
        if isinstance(one, annotated_types.MinLen):
            low = f", at least {one.min_length}"
        elif isinstance(one, annotated_types.MaxLen):
            high = f", at most {one.max_length:,}"
    return low + high


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    return (annotation,)


def _bounds(metadata: list[Any]) -> str:
    low, high = "", ""
    for one in metadata:
        if isinstance(one, annotated_types.Ge):
            low = f" from {_number(one.ge)}"
        elif isinstance(one, annotated_types.Gt):
            low = f" above {_number(one.gt)}"
        elif isinstance(one, annotated_types.Le):
            high = f" to {_number(one.le)}"
        elif isinstance(one, annotated_types.Lt):
            high = f" below {_number(one.lt)}"
    return low + ("," if low.startswith(" above") and high else "") + high


def _number(value: Any) -> str:
    if isinstance(value, int) and value & (value - 1) == 0 and value > 1 << 20:
        return f"2^{value.bit_length() - 1}"
    if isinstance(value, int) or value == round(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,g}"


def _identifier_rules() -> str:
    head = "| rule | has a form, and what is the same | for example | is |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{name}` | {rule.what} | `{rule.example[0]}` | `{rule.example[1]}` |\n"
        for name, rule in RULES.items()
    )


def _strategies() -> str:
    lines = ["| name | from | paper | options |\n|---|---|---|---|\n"]
    for name, table in STRATEGIES.items():
        options = [
            f"`{key}` = {_default(field)} ({_allowed(field)}): {field.description}"
            for key, field in table.model_fields.items()
        ]
        cell = "<br>".join([*options, *([table.remark] if table.remark else [])]) or "none"
        lines.append(f"| `{name}` | {table.by} | {table.paper} | {cell} |\n")
    return "".join(lines)


# --- commands -------------------------------------------------------------------------------------
def _commands() -> str:
    return _COMMANDS + "".join(_command(typer.main.get_command(app), "wardround"))


def _command(command: Any, name: str) -> Iterator[str]:
    text = (command.help or "").strip()
    if not hasattr(command, "commands"):
        arguments = "".join(f" {_argument(p)}" for p in command.params if _is_argument(p))
        yield f"\n## `{name}{arguments}`\n{text}\n"
        rows = [row for parameter in command.params if (row := _parameter(parameter))]
        if rows:
            yield "\n| | | |\n|---|---|---|\n" + "".join(rows)
        if command.epilog:
            yield f"\n{command.epilog}\n"
        return
    for below in command.list_commands(None):
        part = command.get_command(None, below)
        if not part.hidden:
            yield from _command(part, f"{name} {below}")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _parameter(parameter: Any) -> str:
    """A row: what is typed, its default, what it means; '' for what isn't shown."""
    if getattr(parameter, "hidden", False):
        return ""
    if _is_argument(parameter):
        typed = parameter.metavar or parameter.name.upper()
    else:
        typed = ", ".join(parameter.opts)
        if not parameter.is_flag:
            typed += f" {parameter.metavar or _kind(parameter.type)}"
    default = ""
    if not parameter.required and parameter.default not in (None, False, ()):
        if not callable(parameter.default):
            default = f"default `{parameter.default}`"
    elif parameter.required:
        default = "required"
    text = (parameter.help or "").replace("|", "\\|").replace("\n", " ")
    typed = typed.replace("|", "\\|")
    return f"| `{typed}` | {default} | {text} |\n"


def _kind(kind: Any) -> str:
    """What an option takes, where it doesn't say so itself."""
    if choices := getattr(kind, "choices", None):
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return {"integer": "N", "float": "X"}.get(kind.name.split()[0]) or str(kind.name).upper()


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
