"""Rows by identifiers: what becomes a key, which columns are whose, what is left out or refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from wardround.client.data.shard import OwnShard
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.common.joint.known import make_joint
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.linked import LinkedRows, LinkedTask

PARTIES: dict[str, Any] = {
    "lab": {"numeric": ["crp"], "categorical": {"sex": ["f", "m"]}},
    "registry": {"outcome": "died"},
}
IDENTIFIERS = {"surname": "name", "born": "date", "nhs": "nhs"}
TOML = """
[task]
name = "linked"
[task.identifiers]
nhs = "nhs"
[task.parties.lab]
numeric = ["crp"]
[task.parties.registry]
outcome = "died"
[procedure]
name = "linkage"
"""
LAB = {
    "surname": ["Müller", "O'Brien", "Sørensen", "Kowalski"],
    "born": ["12.03.1975", "31.01.1960", "05.05.1980", "06.06.1990"],
    "nhs": ["943 476 5919", "401 023 2137", "9434765870", ""],
    "crp": ["1.5", "", "3.5", "9"],
    "sex": ["f", "m", "m", "f"],
}
REGISTRY = {
    "surname": ["SORENSEN", "Mueller", "Obrien", "Nobody"],
    "born": ["1980-05-05", "1975-03-12", "1960-01-31", "1999-09-09"],
    "nhs": ["9434765870", "9434765919", "4010232137", "9434765889"],
    "died": ["no", "yes", "no", ""],
}


def write(path: Path, columns: Mapping[str, Sequence[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def task(**options: Any) -> LinkedTask:
    return LinkedTask(**{"identifiers": IDENTIFIERS, "parties": PARTIES} | options)


def rows(path: Path, party: str, **options: Any) -> LinkedRows:
    made = task(**options)
    return made.at(made.load(path), party)


def test_the_same_persons_have_the_same_keys_at_both(tmp_path: Path) -> None:
    lab = rows(write(tmp_path / "lab.csv", LAB), "lab")
    registry = rows(write(tmp_path / "registry.csv", REGISTRY), "registry")
    assert len(lab) == 3 and len(registry) == 3
    assert [registry.keys.index(key) for key in lab.keys] == [1, 2, 0]
    assert [str(one) for one in lab.left_out] == ["1 row was left out: column 'nhs' is empty"]
    assert [str(one) for one in registry.left_out] == ["1 row was left out: column 'died' is empty"]
    assert registry.outcome.tolist() == [0.0, 1.0, 0.0]


def test_each_reason_is_told_by_its_column(tmp_path: Path) -> None:
    change = {"nhs": ["9434765918", "", *LAB["nhs"][2:]], "surname": ["", "", "", "Nowak"]}
    cells = {name: [*found, found[0]] for name, found in (LAB | change).items()}
    cells["surname"] = ["Müller", "-", "Sørensen", "Nowak", ""]
    found = task().load(write(tmp_path / "lab.csv", cells))
    assert [str(one) for one in found.left_out] == [
        "2 rows were left out: column 'nhs' is empty",
        "2 rows were left out: column 'nhs' isn't by the rule 'nhs'",
    ]
    cells["nhs"] = ["9434765919"] * 3 + ["4010232137"] * 2
    cells["surname"] = ["", "-", "Sørensen", "Nowak", ""]
    found = task().load(write(tmp_path / "lab.csv", cells))
    assert [str(one) for one in found.left_out] == [
        "2 rows were left out: column 'surname' is empty",
        "1 row was left out: column 'surname' isn't by the rule 'name'",
    ]
    assert len(found) == len(found.keys) == 2


def test_numbers_that_a_file_has_rounded_link_nobody(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1e19, 2.0], "crp": [1.0, 2.0]}), tmp_path / "lab.parquet")
    options = {"identifiers": {"n": "exact"}, "parties": {"lab": {"numeric": ["crp"]}, "x": {}}}
    with pytest.raises(DataError, match=r"column 'n': a number beyond 2\^53, which was rounded"):
        rows(tmp_path / "lab.parquet", "lab", **options)


def test_inputs_are_numbers_without_gaps(tmp_path: Path) -> None:
    lab = rows(write(tmp_path / "lab.csv", LAB), "lab")
    assert lab.columns == ("crp", "sex=m")
    np.testing.assert_array_equal(lab.matrix(), [[1.5, 0], [2.5, 1], [3.5, 1]])
    some = lab.select(np.array([2, 1]))  # a gap is filled by the rows that are used
    np.testing.assert_array_equal(some.matrix(), [[3.5, 1], [3.5, 1]])
    assert some.keys == [lab.keys[2], lab.keys[1]]


def test_any_table_gives_the_same_keys(tmp_path: Path) -> None:
    """CSV, or Parquet with dates and whole numbers of their own type, in another order."""
    first = rows(write(tmp_path / "lab.csv", LAB), "lab")
    days = ["1990-06-06", "1980-05-05", "1960-01-31", "1975-03-12"]
    columns = {name: list(reversed(cells)) for name, cells in LAB.items()}
    table = pa.table(
        {
            "surname": columns["surname"],
            "born": pa.array(days).cast(pa.date32()),
            "nhs": pa.array([None, 9434765870, 4010232137, 9434765919], pa.int64()),
            "crp": pa.array([9.0, 3.5, None, 1.5]),
            "sex": columns["sex"],
        }
    )
    pq.write_table(table, tmp_path / "lab.parquet")
    second = rows(tmp_path / "lab.parquet", "lab")
    assert list(reversed(second.keys)) == list(first.keys)
    np.testing.assert_array_equal(second.matrix()[::-1], first.matrix())


def test_a_hospital_has_one_part_and_its_own_columns(tmp_path: Path) -> None:
    config = parse_config(TOML)
    made, path = make_task(config), write(tmp_path / "lab.csv", LAB)
    opened = OwnShard("lab", made, config, lambda: made.load(path)).open()
    assert list(opened.parts) == ["train"] and opened.notes == ()
    assert opened.parts["train"].columns == ("crp",)
    with pytest.raises(DataError, match=r"'west' is no party .* lab, registry"):
        OwnShard("west", made, config, lambda: made.load(path)).open()


def test_what_is_wrong_with_its_rows_stays_in_the_hospitals_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other parties would learn of counts and lines, which no plan lists."""
    config = parse_config(TOML)
    made, path = make_task(config), write(tmp_path / "lab.csv", DOUBLED)
    with pytest.raises(DataError) as error:
        OwnShard("lab", made, config, lambda: made.load(path), b"k" * 32).open()
    assert str(error.value) == (
        "lab: its data don't fit the study; that hospital's own log says where and why"
    )
    assert f"{path}:6: column 'nhs': 1 row" in caplog.text
    with pytest.raises(DataError, match="lab.csv:6"):
        OwnShard("lab", made, config, lambda: made.load(path)).open()


def test_the_version_of_the_rules_is_in_what_parties_agree_on() -> None:
    config = parse_config(TOML)
    assert config.task.options["rules"] == 1
    assert parse_config(config.to_toml()).task == config.task
    with pytest.raises(ConfigError, match=r"task.rules: this wardround has version 1 .* have 2"):
        make_task(parse_config(TOML.replace('"linked"', '"linked"\nrules = 2')))


DOUBLED = {name: [*cells, cells[0]] for name, cells in LAB.items()}


def test_rows_with_the_same_identifiers_are_refused_or_all_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "lab.csv", DOUBLED)
    with pytest.raises(DataError, match=r"lab.csv:6: .* 1 rows? .*same identifiers") as error:
        rows(path, "lab")
    assert "Müller" not in str(error.value) and "943" not in str(error.value)
    left = rows(path, "lab", duplicates="leave_out")
    assert len(left) == 2
    assert str(left.left_out[1]).startswith("2 rows were left out: another row has the same")


def test_another_rule_than_the_columns_is_told_by_how_many_it_refuses(tmp_path: Path) -> None:
    cells = {"nhs": [f"{10**9 + 7 * n}" for n in range(40)], "crp": ["1"] * 40}
    path = write(tmp_path / "lab.csv", cells)
    options = {"identifiers": {"nhs": "nhs"}, "parties": {"lab": {"numeric": ["crp"]}, "x": {}}}
    with pytest.raises(DataError, match=r"column 'nhs': 3\d of 40 texts aren't by the rule 'nhs'"):
        rows(path, "lab", **options)
    options["identifiers"] = {"nhs": "date"}
    with pytest.raises(DataError, match=r"by the rule 'date'; say how dates are written \(task\."):
        rows(path, "lab", **options)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"nhs": None}, {}, r"lab.csv: there is no column 'nhs'"),
        ({"crp": None}, {}, r"lab.csv: there is no column 'crp'"),
        ({"crp": ["1", "x", "3", "4"]}, {}, r"lab.csv:3: column 'crp': not a finite number"),
        ({"sex": ["f", "m", "w", "f"]}, {}, r"lab.csv:4: column 'sex': .*lab.categorical"),
        ({}, {"missing": "refuse"}, r"lab.csv:3: column 'crp': the value is missing"),
        ({}, {"incomplete": "refuse"}, r"lab.csv:5: column 'nhs': an identifier is missing"),
        (
            {"nhs": ["9434765918", *LAB["nhs"][1:]]},
            {"incomplete": "refuse"},
            r"lab.csv:2: column 'nhs': no identifier by the rule 'nhs'",
        ),
        ({"crp": [""] * 4}, {}, r"lab.csv: column 'crp' is empty in every row"),
        ({"nhs": [""] * 4}, {}, r"lab.csv: no row has all identifiers"),
        (
            {"born": ["01.02.1975", "1960/01/31", "x", ""]},
            {},
            r"lab.csv:\d: column 'born'|no row has all",
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_place(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    cells = {name: found for name, found in (LAB | change).items() if found is not None}
    with pytest.raises(DataError, match=message):
        rows(write(tmp_path / "lab.csv", cells), "lab", **options)


def test_unread_numbers_are_left_out_as_far_as_the_hospital_lets_them(tmp_path: Path) -> None:
    path = write(tmp_path / "lab.csv", LAB | {"crp": ["1", "x", "3", "4"]})
    with allowing(0.5):
        lab = rows(path, "lab")
    assert lab.numbers("crp").tolist() == [1.0, 3.0]


def test_rows_with_a_gap_are_left_out_where_the_settings_say_so(tmp_path: Path) -> None:
    lab = rows(write(tmp_path / "lab.csv", LAB), "lab", missing="leave_out")
    assert lab.numbers("crp").tolist() == [1.5, 3.5]


def test_time_event_and_texts_of_an_outcome(tmp_path: Path) -> None:
    cells = {"nhs": ["9434765919", "4010232137"], "days": ["3", "4.5"], "dead": ["ja", "nein"]}
    path = write(tmp_path / "r.csv", cells)
    party = {"time": "days", "event": "dead", "positive": ["ja"]}
    options = {"identifiers": {"nhs": "nhs"}, "parties": {"r": party, "lab": {"numeric": ["crp"]}}}
    found = rows(path, "r", **options)
    assert found.time.tolist() == [3.0, 4.5] and found.event.tolist() == [1.0, 0.0]
    with pytest.raises(DataError, match="no outcome"):
        _ = found.outcome
    with pytest.raises(DataError, match=r"r.csv:2: column 'days': a negative time"):
        rows(write(path, cells | {"days": ["-3", "4"]}), "r", **options)


@pytest.mark.parametrize(
    ("parties", "message"),
    [
        ({"lab": {"numeric": ["nhs"]}, "b": {}}, "parties.lab.numeric.*'nhs' is an identifier"),
        ({"lab": {"outcome": "born"}, "b": {}}, "parties.lab.outcome.*'born' is an identifier"),
        ({"a": {"outcome": "x"}, "b": {"outcome": "y"}}, "parties.b.outcome.*'a' has an outcome"),
        ({"a": {"outcome": "x"}, "b": {"time": "t", "event": "e"}}, "parties.b.time.*'a' has an"),
        ({"a": {"numeric": ["x"]}, "b": {"numeric": ["x"]}}, "parties.b.numeric.*of 'a' already"),
        ({"a": {"numeric": ["x"], "outcome": "x"}, "b": {}}, "outcome.*'x' stands in numeric"),
        ({"a": {"numeric": ["x", "x"]}, "b": {}}, "numeric.*'x' stands in numeric"),
        ({"a": {"time": "t"}, "b": {}}, "event.*is missing"),
        ({"a": {"outcome": "x", "time": "t", "event": "e"}, "b": {}}, "outcome.*beside time"),
        ({"a": {"categorical": {"s": ["f"]}}, "b": {}}, "at least two"),
        ({"a": {"positive": ["ja"]}, "b": {}}, "positive.*outcome or event"),
        ({"coordinator": {}, "b": {}}, "server's own name"),
        ({"a": {}, "A": {}}, "capitals only"),
        ({"a": {}}, "at least 2"),
        ({name: {} for name in "abcdef"}, "at most 5"),
    ],
)
def test_columns_have_one_owner(parties: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        task(parties=parties)
    (found,) = error.value.errors()
    where = getattr(found.get("ctx", {}).get("error"), "key", "")
    key = ".".join([*map(str, found["loc"]), where])
    assert re.search(message, f"{key}: {found['msg']}"), (key, found["msg"])


VERTICAL = '\nmodel = "logistic"\nlink = "x"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"linkage"', '"train"', r"procedure.name: task 'linked' is for joint procedures"),
        ('"linkage"', '"describe"', r"procedure.name: task 'linked' is for joint procedures"),
        ('"linkage"', '"linkage"\n[strategy]\nname = "krum"', r"strategy.name: has no effect"),
        ('"linkage"', '"linkage"\n[training]\nlr = 0.1', r"training.lr: has no effect"),
        ('"linkage"', '"linkage"\n[privacy]\nunit = "patient"\nepsilon = 1.0', r"privacy.unit"),
        (
            '"linkage"',
            '"linkage"\n[secure_aggregation]\nenabled = false',
            r"secure_aggregation.enabled: has no effect .* sealed from party to party",
        ),
        ('"linkage"', '"linkage"\n[federation]\nmin_clients = 3', r"federation.min_clients"),
        ('"linkage"', '"linkage"\n[data]\ntest_fraction = 0.5', r"data.test_fraction"),
        ('"linkage"', '"linkage"\n[compression]\nbits = 8', r"compression"),
        ('outcome = "died"', "", None),
        ('"linkage"', f'"vertical"{VERTICAL}', None),
        (
            'outcome = "died"\n[procedure]\nname = "linkage"',
            f'[procedure]\nname = "vertical"{VERTICAL}',
            "",
        ),
        ('numeric = ["crp"]', 'numeric = ["nhs"]', r"<.*|:\d+: task.parties.lab.numeric: 'nhs'"),
    ],
)
def test_what_goes_with_a_joint_procedure(old: str, new: str, message: str | None) -> None:
    text = TOML.replace(old, new)
    if message is None:
        make_task(parse_config(text))
        return
    with pytest.raises(ConfigError, match=message or "task.parties: 'vertical' needs an outcome"):
        make_task(parse_config(text))


def test_the_plainest_file_of_a_linkage() -> None:
    plain = "\n".join(
        line for line in TOML.splitlines() if not line.startswith(("numeric", "outcome"))
    )
    assert isinstance(make_task(parse_config(plain)), LinkedTask)


def test_another_task_has_no_identifiers() -> None:
    with pytest.raises(ConfigError, match=r"task.name: 'linkage' is of rows by identifiers"):
        make_task(parse_config('[procedure]\nname = "linkage"'))


@pytest.mark.parametrize(
    ("procedure", "message"),
    [
        ('"linkage"\ncompare = "nobody"', r":11: procedure.compare: 'nobody' is none of"),
        ('"linkage"\nsmallest = 30\nmost_rows = 20', r":11: procedure.smallest: more than most_r"),
        (f'"vertical"{VERTICAL}\ndealer = "x"', r":13: procedure.dealer: 'x' is neither"),
        (f'"vertical"{VERTICAL}\ndealer = "lab"', r":13: procedure.dealer: 'lab' has columns"),
        ('"vertical"\nlink = "x"\nmodel = "cox"', r":12: procedure.model: 'cox' needs time and"),
    ],
)
def test_options_that_dont_fit_are_told_by_file_and_line(procedure: str, message: str) -> None:
    text = TOML.lstrip().replace('"linkage"', procedure)
    config = parse_config(text, path=Path("study.toml"))
    with pytest.raises(ConfigError, match=rf"study\.toml{message}"):
        make_joint(config, make_task(config))
