"""The manifests that a server makes, against lists written by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.stage_two import stage_two
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import StrategyError, TaskError
from wardround.common.flower.arrays import ArraySpec
from wardround.common.manifest.leaves import moved_protection
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol import names as m
from wardround.common.secagg.content import descriptor
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.reception.manifest import preparation_manifest

LAYOUT = {
    "0.weight": ArraySpec((4, 3), "float32"),
    "0.mean": ArraySpec((3,), "float32"),
    "0.count": ArraySpec((), "int64"),
}
PARAMETERS = ["0.weight"]


def description(config: Config, hospitals: int = 4) -> Description:
    keys = {f"h{number}": Identity.generate().public for number in range(hospitals)}
    server = Identity.generate().public
    now = "2026-01-01T00:00:00+00:00"
    toml = shared_toml(config)
    until = "2026-01-31T00:00:00+00:00"
    name, place = config.federation.name, "localhost:8443"
    return Description(name, 7, place, toml, server, keys, (), now, until)


SIGNED = description(parse_config(""))


def first(text: str = "", hospitals: int = 4) -> Manifest:
    config = parse_config(text)
    return preparation_manifest(config, make_task(config), description(config, hospitals), "run-1")


def listed(manifest: Manifest, kind: str) -> dict[str, tuple[Any, str, str]]:
    return {
        f"{leaf.record}/{leaf.name}": (leaf.shape, leaf.dtype, leaf.protection)
        for leaf in manifest.leaves
        if leaf.message_type == kind
    }


PLAIN = "[secure_aggregation]\nenabled = false\n"
OWN = dict.fromkeys(
    ("secagg/count", "secagg/weight", "secagg/clipped", "secagg/failed"),
    ((1,), "float64", "masked"),
)
MESSAGE = {"secagg/message": (None, "bytes", "keys")}
SUMS = (None, "float64", "masked")


def test_the_facts_of_a_run() -> None:
    config = parse_config("[federation]\nrounds = 9\nclients_per_round = 3\n[training]\nlr = 0.5\n")
    described = description(config)
    made = preparation_manifest(config, make_task(config), described, "run-1")
    assert (made.stage, made.run, made.federation) == (1, "run-1", "federation")
    assert made.description == described.digest().hex() and made.description_version == 7
    assert made.descriptor == descriptor(config).hex() == descriptor(described.config()).hex()
    assert (made.rounds, made.cohort, made.roster) == (9, 3, ("h0", "h1", "h2", "h3"))
    assert (made.strategy, made.algorithms) == ("fedavg", ("plain",))
    assert (made.task, made.task_sha256, made.model_family) == ("tabular", "", "logistic")
    assert made.protocol == m.PROTOCOL and "+" not in made.versions.torch
    assert first(hospitals=2).cohort == 2


@pytest.mark.parametrize(
    ("text", "algorithm", "records"),
    [
        ("[strategy]\nname = 'scaffold'\n", "scaffold", {"arrays/*", "control/*"}),
        ("[strategy]\nname = 'fednova'\n", "fednova", {"arrays/*"}),
        ("[strategy]\nname = 'feddyn'\n", "feddyn", {"arrays/*"}),
        ("[strategy]\nname = 'fedadam'\n", "plain", {"arrays/*"}),
    ],
)
def test_a_strategys_half_at_the_hospital(text: str, algorithm: str, records: set[str]) -> None:
    made = first(text)
    assert made.algorithms == (algorithm,)
    assert {x for x in listed(made, m.TRAIN) if x.endswith("*")} == records


def test_what_leaves_with_secure_aggregation() -> None:
    made = first()
    assert listed(made, m.DESCRIBE) == {
        "describe/hospital": ((64,), "text", "keys"),
        "describe/device": ((4,), "text", "keys"),
        "describe/warnings": ((0, 0), "texts", "keys"),
        "sizes/train": ((), "int", "sizes"),
        "sizes/validation": ((), "int", "sizes"),
        "sizes/test": ((), "int", "sizes"),
    }
    for kind in (m.HELLO, m.GROUP, m.KEYS, m.UNMASK):
        assert listed(made, kind) == MESSAGE
    assert listed(made, m.LAYOUT) == {"secagg/message": (None, "bytes", "sizes")}
    vector = {"secagg/vector": (None, "bytes", "masked")}
    for kind in (m.STATISTICS, m.EVALUATE):
        assert listed(made, kind) == MESSAGE | vector | OWN | {"arrays/*": SUMS}
    counts = OWN | dict.fromkeys(("secagg/loss", "secagg/steps"), ((1,), "float64", "masked"))
    open_array = {"arrays/*": (None, "any", "masked")}
    assert listed(made, m.TRAIN) == MESSAGE | vector | counts | open_array
    second = stage_two(made, LAYOUT, PARAMETERS, {})
    arrays = {f"arrays/{x}": (*spec, "masked") for x, spec in LAYOUT.items()}
    # 12 words of 32 bits; 24 bytes each for 5 counts, 3 means and a counter of batches
    sized = {"secagg/vector": ((12 * 4 + 24 * 10,), "bytes", "masked")}
    assert listed(second, m.TRAIN) == MESSAGE | counts | arrays | sized
    assert second.continues(made) and not second.weaker_than(made)


def test_what_leaves_in_plain() -> None:
    made = first(PLAIN)
    assert {leaf.message_type for leaf in made.leaves} == {
        m.DESCRIBE,
        m.STATISTICS,
        m.TRAIN,
        m.EVALUATE,
    }
    assert listed(made, m.DESCRIBE)["describe/warnings"] == ((20, 2000), "texts", "none")
    assert listed(made, m.STATISTICS) == {"arrays/*": (None, "float64", "none")}
    second = stage_two(made, LAYOUT, PARAMETERS, {})
    assert listed(second, m.TRAIN) == {
        **{f"arrays/{x}": (*spec, "none") for x, spec in LAYOUT.items()},
        "metrics/num-examples": ((), "int", "sizes"),
        "metrics/local-steps": ((), "int", "sizes"),
        "metrics/train-loss": ((), "float", "none"),
    }


def test_vectors_of_16_bits_of_records_and_of_a_quantile() -> None:
    def size(text: str, records: dict[str, Any]) -> int:
        second = stage_two(first(text), LAYOUT, PARAMETERS, records)
        (shape, _, _) = listed(second, m.TRAIN)["secagg/vector"]
        return int(shape[0])

    control = {"control": {"0.weight": LAYOUT["0.weight"]}}
    assert size("[secure_aggregation]\nbits = 16\n", {}) == 12 * 2 + 24 * 10
    assert size("[strategy]\nname = 'scaffold'\n", control) == 24 * 4 + 24 * 10
    private = "[privacy]\nunit = 'hospital'\nepsilon = 3.0\nclipping = 'adaptive'\n"
    assert size(private, {}) == 13 * 4 + 24 * 10


@pytest.mark.parametrize("unit", ["example", "patient", "hospital"])
@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
@pytest.mark.parametrize("masked", [True, False])
def test_protection_by_privacy(unit: str, noise: str, masked: bool) -> None:
    if noise == "distributed" and not masked:
        with pytest.raises(Exception, match="distributed"):
            first(f"{PLAIN}[privacy]\nunit = '{unit}'\nnoise = '{noise}'\nepsilon = 3.0\n")
        return
    step = "[training]\nlocal_steps = 1\n" if unit != "hospital" and noise != "local" else ""
    text = f"[privacy]\nunit = '{unit}'\nnoise = '{noise}'\nepsilon = 3.0\n" + step
    made = first(text if masked else PLAIN + text)
    second = stage_two(made, LAYOUT, PARAMETERS, {})
    train = listed(second, m.TRAIN)
    own = noise != "central"
    expected = {(True, True): "masked+noised", (True, False): "masked"}
    expected |= {(False, True): "noised", (False, False): "none"}
    assert train["arrays/0.weight"][2] == expected[masked, own]
    assert moved_protection(made.secure_aggregation, made.privacy) == expected[masked, own]
    # no noise is on a buffer, so a plan with one asks a person again
    assert train["arrays/0.mean"][2] == ("masked" if masked else "none")
    weaker = {leaf.name for leaf in second.weaker_than(made)}
    assert weaker == ({"0.mean", "0.count"} if own else set())
    assert train["secagg/claim" if masked else "privacy/claim"] == (None, "bytes", "keys")
    assert "metrics/train-loss" not in train
    sizes = "sizes" if unit == "hospital" else "noised"
    assert listed(made, m.DESCRIBE)["sizes/train"][2] == sizes
    if not masked:
        stepwise = unit != "hospital" and noise == "local"
        assert train["metrics/num-examples"][2] == ("noised" if stepwise else "keys")
    covered = own and unit != "hospital"  # figures, too, are of sums with noise
    assert listed(made, m.EVALUATE)["arrays/*"][2] == expected[masked, covered]


def test_what_is_each_hospitals_own_is_not_told() -> None:
    text = "[privacy]\nunit = 'example'\nepsilon = 3.0\nepsilon_limit = 8.0\n"
    made = first(text + "[secure_aggregation]\nthreads = 4\nmin_cohort = 4\n")
    assert made.privacy.epsilon_limit is None and made.secure_aggregation.threads == 1
    assert made.secure_aggregation.min_cohort == 4


@pytest.mark.parametrize(
    ("text", "lasts"),
    [("[federation]\nround_attempts = 9\n", True), ("[federation]\nrounds = 9\n", False)],
)
def test_what_the_next_start_of_a_server_may_change(text: str, lasts: bool) -> None:
    """In the digest that hospitals' logs are compared by; the plan itself is another all the
    same."""
    one, other = (
        preparation_manifest(parse_config(text), make_task(parse_config(text)), SIGNED, "run-1")
        for text in ("", text)
    )
    assert one.digest() != other.digest()
    assert (one.lasting_digest() == other.lasting_digest()) == lasts


def test_a_task_without_statistics_has_none(line) -> None:
    config = parse_config("")
    made = preparation_manifest(config, line(), description(config), "run-1")
    assert not listed(made, m.STATISTICS)


def test_a_file_is_named_without_its_folder_and_with_its_digest(tmp_path: Path, line) -> None:
    (tmp_path / "tasks").mkdir()
    file = tmp_path / "tasks" / "mine.py"
    file.write_bytes(b"class Mine: ...\n")
    config = parse_config("[task]\nname = 'tasks/mine.py:Mine'\n", path=tmp_path / "f.toml")
    made = preparation_manifest(config, line(), description(config), "run-1")
    assert made.task == made.model_family == "mine.py:Mine"
    assert made.task_sha256 == hashlib.sha256(b"class Mine: ...\n").hexdigest()
    assert str(tmp_path).encode() not in made.body()
    file.unlink()
    with pytest.raises(TaskError, match="mine.py: can't be read"):
        preparation_manifest(config, line(), description(config), "run-1")


def test_settings_that_no_run_could_have_make_no_manifest() -> None:
    with pytest.raises(StrategyError, match="krum"):
        first("[strategy]\nname = 'krum'\n")
