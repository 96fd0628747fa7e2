"""Whatever setting names a column or a value of cells: it is in normal form once it is read."""

from __future__ import annotations

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import wardround.client.sources
import wardround.common.settings
import wardround.common.tasks
from wardround.client.site import rules
from wardround.client.site.policy import load_site
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, PolicyRefused
from wardround.common.names import names_of
from wardround.common.procedures.statistics.regression.formula import read_formula
from wardround.common.settings.analyses.groups import TTestOptions
from wardround.common.settings.analyses.regression import RegressionOptions
from wardround.common.tasks.data.mapping.settings import Mapping
from wardround.common.tasks.data.shards import shard_sites

NAME = "größe [cm]"
WRITTEN = " " + unicodedata.normalize("NFD", NAME).replace(" ", "  ") + "\u200b"
"""As another system, or a hand, writes it."""
FORMS: tuple[Any, ...] = (
    WRITTEN,
    [WRITTEN],
    [WRITTEN, "b"],
    *({WRITTEN: one} for one in (1, 0.5, "a", ["a", "b"], [0.0, 1.0], {"a": ["b"]}, {})),
)
"""What a key that names columns may be: a name, a list, a table by name."""
OTHERWISE = {
    "AskingRules.linkage_columns": "patterns, held against normal forms by hold_back.is_allowed",
    "AskingRules.vertical_columns": "the same",
    "SitePolicy.columns": "the same",
    "SitePolicy.groups": "the same",
    "SitePolicy.linkage_columns": "the same",
    "SitePolicy.vertical_columns": "the same",
    "ProcedureTable.name": "a procedure's",
    "UnitChange.from_": "a unit",
    "VerticalOptions.dealer": "a party",
}
"""Keys whose description speaks of columns and that name none."""


def tables() -> Iterator[type[BaseModel]]:
    for room in (wardround.common.settings, wardround.common.tasks, wardround.client.sources):
        for one in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(one.name)
    found, waiting = dict[str, type[BaseModel]](), [BaseModel]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if one.__module__.startswith("wardround."):
            found[f"{one.__module__}.{one.__qualname__}"] = one
    return iter(found.values())


def of_columns() -> dict[str, FieldInfo]:
    return {
        f"{table.__name__}.{key}": field
        for table in tables()
        for key, field in table.model_fields.items()
        if "column" in (field.description or "")
    }


def names_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple | set | frozenset):
        yield from value


def test_every_key_that_names_columns_gives_their_normal_form() -> None:
    asked, odd = 0, set[str]()
    for key, field in of_columns().items():
        hint: Any = field.annotation
        if field.metadata:
            hint = Annotated[(hint, *field.metadata)]
        for form in FORMS:
            try:
                found = TypeAdapter(hint).validate_python(form, strict=True)
            except (ValidationError, TypeError):
                continue
            asked += 1
            if NAME not in names_in(found):
                odd.add(key)
    assert asked > 40
    assert odd == set(OTHERWISE), "use Name of common/settings/declared.py"


def test_two_keys_that_are_one_name_are_refused() -> None:
    text = '[task.columns.codes.sex]\nm = ["1"]\n" m" = ["2"]\n'
    with pytest.raises(ConfigError, match="'m' and ' m' are the same; keep one of them"):
        make_task(parse_config(text))
    with pytest.raises(ValidationError, match="are the same; keep one of them"):
        Mapping.model_validate({"rename": {NAME: "a", WRITTEN: "b"}})


def test_a_mapping_of_another_form_is_the_same_mapping() -> None:
    written = {
        "rename": {WRITTEN: f"{WRITTEN} b"},
        "codes": {"sex": {"1.0": ["m "]}},
        "derive": {"bmi": f"`{WRITTEN}` / 2"},
    }
    normal = {
        "rename": {NAME: f"{NAME} b"},
        "codes": {"sex": {"1": ["m"]}},
        "derive": {"bmi": f"`{NAME}` / 2"},
    }
    found, same = (Mapping.model_validate(one) for one in (written, normal))
    assert found.rename == same.rename and found.categories == same.categories
    assert [one.columns for one in found.expressions.values()] == [
        one.columns for one in same.expressions.values()
    ]


def test_analyses_compare_normal_forms() -> None:
    tests = TTestOptions.model_validate(
        {"name": "t", "kind": "t_test", "columns": [WRITTEN], "by": "w", "groups": ["1.0", " 2"]}
    )
    assert (tests.columns, tests.groups) == ([NAME], ["1", "2"])
    with pytest.raises(ValidationError, match="two different levels"):
        tests.model_validate(tests.model_dump() | {"groups": ["1.0", "1"]})
    decomposed = unicodedata.normalize("NFD", "y ~ größe + C(ward, ref='1.0')")
    options = RegressionOptions.model_validate(
        {"name": "r", "kind": "regression", "formula": decomposed}
    )
    found = read_formula(options.formula)
    assert [one.reference for one in found.categories] == ["1"]
    assert "größe" in [one.text for one in found.factors]


def test_a_hospital_has_one_name_whichever_way_its_file_is_written(tmp_path: Path) -> None:
    """'ガ' is one letter, or on macOS two; both lose letters, so that a mark follows."""
    both = [unicodedata.normalize(form, "ガーゼ") for form in ("NFC", "NFD")]
    assert both[0] != both[1] and [*names_of(both[:1])] == [*names_of(both[1:])]
    (tmp_path / f"{both[1]}.csv").touch()
    assert [*shard_sites(tmp_path)] == both[:1]


def test_a_rule_of_a_site_matches_a_column_by_its_normal_form(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(f'groups = ["{unicodedata.normalize("NFD", "größe")}*"]\n')
    site = load_site(tmp_path / "site.toml")
    rules._allowed(site, "groups", "column to judge by", NAME)
    with pytest.raises(PolicyRefused, match="column to judge by is 'age'"):
        rules._allowed(site, "groups", "column to judge by", "age")
