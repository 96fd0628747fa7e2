"""A finished model teaches another one over unlike hospitals: what is the same, what is learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unlike import Consortium
from wardround.common.config.load import parse_config
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import WardroundError
from wardround.common.predict import load_model
from wardround.common.run.shaping import digest
from wardround.common.secagg.content import descriptor
from wardround.common.trust.description import study_tables
from wardround.simulations import simulate

PLAIN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"
ONE = ("federation.rounds=1", PLAIN)


def by(run: Path, *more: str) -> tuple[str, ...]:
    return f"teacher.model={json.dumps(str(run))}", *more


def arrays(run: Path) -> dict[str, np.ndarray]:
    return {
        name: np.array(v) for name, v in read_tensors(run / "model/model.safetensors")[0].items()
    }


@pytest.fixture(scope="module")
def taught(
    unlike: Callable[[str], Consortium], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Consortium, Path]]:
    found: dict[str, tuple[Consortium, Path]] = {}

    def of(kind: str) -> tuple[Consortium, Path]:
        if kind not in found:
            made, here = unlike(kind), tmp_path_factory.mktemp(kind)
            found[kind] = made, simulate(made.config(*ONE, runs=here)).run_directory
        return found[kind]

    return of


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_without_weight_it_is_the_run_without_a_teacher(
    kind: str, taught: Callable[[str], tuple[Consortium, Path]], tmp_path: Path
) -> None:
    """Bit by bit; and with weight another one."""
    made, run = taught(kind)
    asked = [(), by(run, "teacher.weight=0.0"), by(run, "teacher.weight=0.9")]
    plain, none, much = (
        arrays(simulate(made.config(*ONE, *more, runs=tmp_path / str(n))).run_directory)
        for n, more in enumerate(asked)
    )
    assert plain.keys() == none.keys()
    assert all(np.array_equal(plain[name], none[name], equal_nan=True) for name in plain)
    assert any(not np.array_equal(plain[name], much[name]) for name in plain)


def test_a_student_of_shorter_texts_is_taught_word_by_word(
    taught: Callable[[str], tuple[Consortium, Path]], tmp_path: Path
) -> None:
    """Of 8 tokens, where the teacher saw 16."""
    made, run = taught("entities")
    short = (*ONE, "task.max_length=8")
    none, much = (
        arrays(
            simulate(
                made.config(*short, *by(run, f"teacher.weight={weight}"), runs=tmp_path / weight)
            ).run_directory
        )
        for weight in ("0.0", "0.9")
    )
    assert any(not np.array_equal(none[name], much[name]) for name in none)
    assert all(np.isfinite(value).all() for value in much.values())


LINE = """
[federation]
rounds = 20
min_clients = 2
[task]
kind = "regression"
[task.columns]
target = "y"
numeric = ["p", "q"]
[training]
lr = 0.1
local_epochs = 3
[secure_aggregation]
enabled = false
[simulation]
baselines = false
"""


def test_a_linear_student_becomes_its_linear_teacher(tmp_path: Path) -> None:
    """By the teacher's values alone, whatever the labels and the scale that they give."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(113, 2))
    targets = {"taught": 2 * x[:, 0] - x[:, 1] + 3, "noise": generator.normal(5, 9, size=113)}
    for folder, y in targets.items():
        (tmp_path / folder).mkdir()
        for name, rows in (("a", slice(0, 80)), ("b", slice(80, 113))):
            lines = [f"{p},{q},{value}" for (p, q), value in zip(x[rows], y[rows], strict=True)]
            (tmp_path / folder / f"{name}.csv").write_text("p,q,y\n" + "\n".join(lines) + "\n")
    path = tmp_path / "federation.toml"
    teacher = simulate(parse_config(LINE, ["data.path=taught"], path)).run_directory
    learns = by(teacher, "teacher.weight=1.0", "data.path=noise")
    student = simulate(parse_config(LINE, learns, path)).run_directory
    table = {"p": x[:, 0], "q": x[:, 1]}
    wanted, found = (load_model(run).predict(table)["prediction"] for run in (teacher, student))
    np.testing.assert_allclose(wanted, targets["taught"], atol=0.05)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_masks_and_privacy_are_as_ever(
    taught: Callable[[str], tuple[Consortium, Path]], tmp_path: Path
) -> None:
    made, run = taught("binary")
    plain = simulate(made.config(PLAIN, "federation.rounds=1", *by(run), runs=tmp_path / "plain"))
    masked = simulate(
        made.config(MASKED, "federation.rounds=1", *by(run), runs=tmp_path / "masked")
    )
    for name, value in arrays(plain.run_directory).items():
        np.testing.assert_allclose(arrays(masked.run_directory)[name], value, atol=1e-3)
    private = ['privacy.unit="example"', "privacy.noise_multiplier=1.0", "federation.rounds=1"]
    spent = []
    for n, more in enumerate([(), by(run)]):
        found = simulate(made.config(PLAIN, *private, *more, runs=tmp_path / str(n)))
        spent.append({name: one["epsilon"] for name, one in found.rounds[-1]["privacy"].items()})
    assert spent[0] == spent[1] and spent[0]


def test_another_question_is_refused(
    taught: Callable[[str], tuple[Consortium, Path]], tmp_path: Path
) -> None:
    _, run = taught("multiclass")
    made, _ = taught("binary")
    _, own = taught("binary")
    for key, value in (("federation.seed", "8"), ("data.test_fraction", "0.25")):
        with pytest.raises(WardroundError, match=f"{key}: is {value}, and the"):
            simulate(made.config(*ONE, *by(own), f"{key}={value}", runs=tmp_path))
    with pytest.raises(WardroundError, match="teacher's kind isn't this study's"):
        simulate(made.config(*ONE, *by(run), runs=tmp_path))


def test_its_digest_binds_and_its_place_stays(
    taught: Callable[[str], tuple[Consortium, Path]], tmp_path: Path
) -> None:
    made, run = taught("binary")
    config = made.config(*by(run), runs=tmp_path)
    assert config.teacher is not None and len(config.teacher.model_digest) == 64
    assert "model" not in study_tables(config)["teacher"]
    moved = made.config(f'teacher.model_digest="{config.teacher.model_digest}"', runs=tmp_path)
    assert descriptor(moved) == descriptor(config) and digest(moved, True) == digest(config, True)
    for other in (
        "teacher.weight=0.4",
        "teacher.temperature=3.0",
        f'teacher.model_digest="{"1" * 64}"',
    ):
        base = f'teacher.model_digest="{config.teacher.model_digest}"'
        changed = made.config(*([base] if "digest" not in other else []), other, runs=tmp_path)
        assert descriptor(changed) != descriptor(config)
        assert digest(changed, True) != digest(config, True)
    none = made.config(runs=tmp_path)
    assert descriptor(none) not in (descriptor(config), descriptor(moved))
