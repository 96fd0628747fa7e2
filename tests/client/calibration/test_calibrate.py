"""A model recalibrated at home: better on rows that weren't used, signed, of one model alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from tests.client.models.kits import AtHome, at_home, write_rows
from wardround.client.calibration.calibrate import calibrate, own_calibration, path_of, take
from wardround.client.models.find import find_model
from wardround.client.models.outputs import score
from wardround.client.models.rows import rows_for
from wardround.client.process.cli import commands
from wardround.common.audit.log import AuditLog
from wardround.common.calibration.calibration import Calibration, read_calibration
from wardround.common.calibration.families import logit
from wardround.common.config.load import load_config
from wardround.common.errors import CalibrationRefused, ConfigError, DataError, ResultsRefused
from wardround.common.results.package import Package, list_digest, listed
from wardround.common.trust.calibrations import check_calibration, sign_calibration
from wardround.common.trust.identity import Identity
from wardround.server.provision.kits import load_server_folder

FILE = "federation.toml"
Homes = Callable[[str], AtHome]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    place = tmp_path_factory.mktemp("homes")
    return cache(lambda kind: at_home(place / kind, kind))


def more(home: AtHome, name: str, kind: str, rows: int, **how: float) -> str:
    path = home.data.with_name(f"{name}.csv")
    write_rows(path, kind, rows, 11, **how)
    return str(path)


def test_it_is_better_on_new_rows_and_stands_beside_an_untouched_model(homes: Homes) -> None:
    home = homes("binary")
    before = {path: path.read_bytes() for path in home.model.rglob("*") if path.is_file()}
    found = calibrate(home.kit, str(home.data), rules=["sensitivity=0.9"])
    assert {path: path.read_bytes() for path in home.model.rglob("*") if path.is_file()} == before
    assert found.path == path_of(home.kit, home.run.name, find_model(home.kit).digest)
    own = own_calibration(home.kit, find_model(home.kit))
    assert own == found.calibration and own is not None
    assert own.rows == 400 and own.hospital == "north" and own.method == "logistic"
    assert found.after["auc"] == found.before["auc"]
    assert found.gain is not None and found.gain[1] is not None and found.gain[1] > 0
    folder = find_model(home.kit)
    fresh = more(home, "later", "binary", 600, level=-1.5, slope=0.5)
    with rows_for(home.kit, folder, fresh) as raw:
        later = score(home.kit, folder, raw)
    said, corrected = (x["probability"] for x in (later.predictions, own.apply(later.predictions)))
    assert np.mean((corrected - later.targets) ** 2) < np.mean((said - later.targets) ** 2) - 0.02
    chosen = own.thresholds[0]
    low, high = chosen["figures"]["sensitivity"][1:]
    assert low < np.mean(corrected[later.targets == 1] >= chosen["threshold"]) < high


def test_it_is_scikit_learns_sigmoid_of_a_frozen_model(homes: Homes) -> None:
    """CalibratedClassifierCV(method="sigmoid") fits the same two numbers, by Platt's targets and
    without a pull: of 4,000 rows the probabilities are the same to a hundredth."""
    home = homes("binary")
    data = more(home, "many", "binary", 4000, level=-1.5, slope=0.5)
    found = calibrate(home.kit, data, method="logistic").calibration
    folder = find_model(home.kit)
    with rows_for(home.kit, folder, data) as raw:
        scored = score(home.kit, folder, raw)
    scores = logit(scored.predictions["probability"])
    frozen = LogisticRegression().fit(np.array([[-1.0], [1.0]]), [0, 1])
    frozen.coef_, frozen.intercept_ = np.array([[1.0]]), np.array([0.0])
    peer = CalibratedClassifierCV(FrozenEstimator(frozen), method="sigmoid")
    peer.fit(scores[:, None], scored.targets.astype(int))
    expected = peer.predict_proba(scores[:, None])[:, 1]
    assert found.apply(scored.predictions)["probability"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", ["multiclass", "regression", "survival"])
def test_other_kinds_get_nearer_to_a_slope_of_one(homes: Homes, kind: str) -> None:
    home = homes(kind)
    found = calibrate(home.kit, str(home.data), keep=True)
    was, now = found.before["slope"][0], found.after["slope"][0]
    assert was is not None and now is not None and abs(now - 1) < abs(was - 1)
    order = {"multiclass": "accuracy", "survival": "c_index"}.get(kind)
    if order is not None:
        assert found.after[order][0] == found.before[order][0]
    with pytest.raises(ConfigError, match="a threshold is for the probability"):
        calibrate(home.kit, str(home.data), rules=["youden"])


def test_few_rows_one_outcome_and_rows_of_another_are_said(homes: Homes) -> None:
    home = homes("binary")
    with pytest.raises(DataError, match="1 patients .* too few"):
        calibrate(home.kit, more(home, "one", "binary", 2))
    none = Path(more(home, "none", "binary", 33))
    lines = none.read_text().splitlines()
    none.write_text("\n".join([lines[0], *(line[:-1] + "0" for line in lines[1:])]) + "\n")
    found = calibrate(home.kit, str(none)).calibration
    assert found.method == "intercept" and found.slope == 1.0 and found.intercept < 0
    assert any("All rows have one outcome" in note for note in found.notes)
    assert any("By 17 patients" in note for note in found.notes)
    with pytest.raises(CalibrationRefused, match="too few rows of an outcome"):
        calibrate(home.kit, str(none), rules=["youden"])


def test_what_is_no_better_isnt_kept_and_the_command_says_so(homes: Homes) -> None:
    home = homes("binary")
    path = path_of(home.kit, home.run.name, find_model(home.kit).digest)
    for name, data, code in (
        ("not kept: on rows", more(home, "alike", "binary", 60, level=-0.5, slope=0.6), 1),
        (f"kept: {path}", str(home.data), 0),
    ):
        path.unlink(missing_ok=True)
        ran = CliRunner().invoke(
            commands, ["client", "calibrate", str(home.kit.folder), "--data", data]
        )
        assert (ran.exit_code, path.exists()) == (code, code == 0), ran.output
        assert name in ran.output.replace("\n", "") and "calibration slope" in ran.output


def test_altered_stolen_and_foreign_files_are_refused(homes: Homes, tmp_path: Path) -> None:
    home = homes("binary")
    folder = find_model(home.kit)
    path = calibrate(home.kit, str(home.data)).path
    assert path is not None
    text, good = path.read_text(), read_calibration(path)
    try:
        stored = json.loads(text)
        for change, message in (
            ({"intercept": stored["intercept"] + 1}, "altered since it was signed"),
            ({"slope": -1.0}, "has a slope or a method"),
            ({"method": "isotonic", "knots": [[0, 0.5], [1, 0.2]]}, "has a curve that none"),
            ({"version": 2}, "has version 2, and this wardround reads up to 1"),
            ({"model": "00" * 32}, "of another model than this one"),
            ({"intercept": float("nan")}, "is no calibration"),
        ):
            path.write_text(json.dumps(stored | change))
            with pytest.raises(CalibrationRefused, match=message):
                own_calibration(home.kit, folder)
        stranger = sign_calibration(good, Identity.generate())
        path.write_bytes(stranger.to_bytes())
        with pytest.raises(CalibrationRefused, match="a key that isn't known here signed it"):
            own_calibration(home.kit, folder)
        check_calibration(stranger, folder.digest, None)
        with pytest.raises(CalibrationRefused, match="another model"):
            check_calibration(stranger, "11" * 32, None)
    finally:
        path.write_text(text)
    assert "P7-" not in text and str(tmp_path.parent.parent) not in text


def test_a_calibration_over_hospitals_is_taken_as_its_server_signed_it(homes: Homes) -> None:
    home = homes("binary")
    folder, server = find_model(home.kit), load_server_folder(load_config(home.data.parent / FILE))
    result = home.kit.folder / "results" / "ask-1"
    result.mkdir()
    made = Calibration(folder.digest, "", "binary", "logistic", -0.5, 0.8, rows=900)
    for name, of in (("calibration.json", made), ("other.json", replace(made, model="11" * 32))):
        (result / name).write_bytes(of.to_bytes())
    with pytest.raises(ResultsRefused, match=r"files.json can't be read"):
        take(home.kit, "ask-1")
    files = tuple(listed(result, name) for name in ("calibration.json", "other.json"))
    package = Package(network="heart", study="", run="ask-1", round=0, files=files)
    (result / "files.json").write_bytes(package.signed(server.identity))
    with pytest.raises(ResultsRefused, match="no results that this hospital's audit log tells of"):
        take(home.kit, "ask-1")
    with AuditLog.open(home.kit.state / "audit.jsonl", "north", home.kit.identity) as audit:
        digest = list_digest((result / "files.json").read_bytes())
        audit.append("results", digest=digest, signer=server.identity.public.hex())
    assert take(home.kit, "ask-1").path is not None
    own = own_calibration(home.kit, folder)
    assert own is not None and (own.intercept, own.slope, own.hospital) == (-0.5, 0.8, "north")
    (result / "calibration.json").write_bytes((result / "other.json").read_bytes())
    with pytest.raises(ResultsRefused, match="'calibration.json' was altered"):
        take(home.kit, "ask-1")
