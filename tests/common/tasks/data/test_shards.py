"""What names of files and folders say, and that a folder is read as one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.layouts import markdown
from wardround.common.tasks.data.shards import (
    FILES,
    HOSPITALS,
    ONE_FILE,
    SPLIT_FILES,
    shard_files,
    splits_of,
)
from wardround.common.tasks.options import Columns
from wardround.common.tasks.tabular import TabularTask
from wardround.simulations.population.hospitals import Population

ROOT = Path(__file__).parents[4]
ROWS = "y,x\n" + "1,2\n0,3\n" * 10
TABLE = "[task]\nname = 'tabular'\n[task.columns]\ntarget = 'y'\n"
TEXTS = "[task]\nname = 'text'\nkind = 'sequence'\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "val", "test"], ["train", "validation", "test"]),
        (["Training", "DEVEL", "dev"], ["train", "validation", "validation"]),
        (["ncbi_train", "ncbi-test"], ["train", "test"]),
        (["north.train", "north.test", "south"], ["train", "test", None]),
        (["training-set", "test-set"], ["train", "test"]),
        (["test-site-1", "north"], [None, None]),  # a word alone is a name like any other
        (["pre_test", "post_test"], [None, None]),
        (["north", "south"], [None, None]),
        (["train_test", "other"], [None, None]),
    ],
)
def test_names_that_say_a_split(names: list[str], expected: list[str | None]) -> None:
    assert list(splits_of(names).values()) == expected


def write(folder: Path, *names: str, text: str = ROWS) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["train.csv", "devel.csv", "test.csv"], SPLIT_FILES),
        (["a_train.csv", "a_test.csv"], SPLIT_FILES),
        (["north.csv", "south.csv"], FILES),
    ],
)
def test_a_layout_is_recognised(tmp_path: Path, names: list[str], layout: object) -> None:
    write(tmp_path, *names)
    assert shard_files(tmp_path, (".csv",)).layout is layout
    assert shard_files(tmp_path / names[0], (".csv",)).layout is ONE_FILE


@pytest.mark.parametrize("name", ["text", "imaging"])
def test_the_documents_have_the_layouts(name: str) -> None:
    document = (ROOT / "docs" / f"{name}.md").read_text()
    assert f"| {HOSPITALS.looks} | {HOSPITALS.read} |" in document
    assert name == "imaging" or markdown((ONE_FILE, SPLIT_FILES, FILES, HOSPITALS)) in document


def test_what_lies_beside_a_shards_files_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "b.csv", "c.txt", "~$a.xlsx", ".hidden", "more/d.csv")
    assert [str(one) for one in shard_files(tmp_path, (".csv",)).left_out] == [
        "1 folder was left out: a shard's files lie in one folder",
        "1 file was left out: their names don't end in .csv",
    ]
    rows = TabularTask(columns=Columns(target="y").model_dump()).load(tmp_path)
    assert len(rows) == 40 and sum(one.count for one in rows.left_out) == 2


def test_a_table_of_several_files_has_the_split_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "dev.csv", "test.csv")
    task = TabularTask(columns=Columns(target="y").model_dump())
    rows = task.load(tmp_path)
    split = task.given_split(rows)
    assert split is not None
    assert split.tolist() == ["validation"] * 20 + ["test"] * 20 + ["train"] * 20
    named = TabularTask(columns=Columns(target="y", split="x").model_dump())
    with pytest.raises(DataError, match="names say the split; leave out task.columns.split"):
        named.load(tmp_path)


def population(path: Path, text: str, more: str = "") -> Population:
    config = parse_config(f"data.path = '{path}'\n{text}[simulation]\n{more}")
    return Population(config, make_task(config))


@pytest.mark.parametrize(
    "names",
    [["train.csv", "test.csv"], ["a_train.csv", "a_dev.csv"], ["train/a.csv", "test/a.csv"]],
)
@pytest.mark.parametrize("more", ["", "partition = 'sites'"])
@pytest.mark.parametrize("task", [TABLE, TEXTS])
def test_a_split_makes_no_hospitals(tmp_path: Path, names, more: str, task: str) -> None:
    write(tmp_path, *names)
    with pytest.raises(ConfigError, match=r"simulation.partition: .* one data set \(a split: "):
        population(tmp_path, task, more)


def test_a_name_that_two_hospitals_have_is_refused(tmp_path: Path) -> None:
    """Also in a task that names no endings: the one would replace the other."""
    write(tmp_path, "a.csv", "a.parquet", "b.csv/x.csv")
    with pytest.raises(DataError, match="is hospital 'a' like a.csv; rename one"):
        Task.sites(make_task(parse_config(TABLE)), tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert list(Task.sites(make_task(parse_config(TABLE)), tmp_path)) == ["a", "b.csv"]


def test_its_advice_leads_to_a_run(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "test.csv", "notes.txt")
    made = population(tmp_path, TABLE, "partition = 'dirichlet'\nclients = 2")
    assert len(made.names) == 2
    assert sum(made.training_rows(name) for name in made.names) == 20  # none of test.csv
    assert made.notes == [
        "data.path: 1 file was left out: their names don't end in .csv, .tsv, .data, .parquet, "
        ".xlsx, .xlsm"
    ]
    write(tmp_path / "all", "north.csv", "south.csv")
    assert population(tmp_path / "all", TABLE).names == ["north", "south"]
