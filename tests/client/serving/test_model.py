"""Which models are served, and that what was checked is what answers."""

from __future__ import annotations

import json
import shutil
import stat
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.client.serving.made import HOSPITAL, SERVER, SIGNERS, Made, asked
from tests.provisioning import federation
from wardround.client.serving import copied
from wardround.client.serving.asked import Reader
from wardround.client.serving.model import Trust, open_model
from wardround.client.serving.serving import Asking, Reach, Trusting, opened
from wardround.client.site.kit import Kit
from wardround.common.calibration.calibration import Calibration, read_calibration
from wardround.common.drift.counts import Counts
from wardround.common.drift.field import fields_of
from wardround.common.drift.reference import Reference
from wardround.common.errors import (
    ConfigError,
    ModelRefused,
    ProvisionError,
    WardroundError,
)
from wardround.common.model_folder.write import seal_folder
from wardround.common.trust.calibrations import sign_calibration
from wardround.common.trust.identity import Identity
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder

KEYS = Trust({SERVER.public, HOSPITAL.public})
ROW = {"rows": [{"age": 50, "ward": "2"}]}


def copy(path: Path, to: Path) -> Path:
    return Path(shutil.copytree(path, to))


def into(tmp_path: Path) -> Path:
    found = tmp_path / "own"
    found.mkdir()
    return found


@pytest.mark.parametrize("which", ["model", "export"])
def test_an_altered_one_is_refused(which: str, model: Made, tmp_path: Path) -> None:
    path = copy(getattr(model, which), tmp_path / "altered")
    for file in sorted(one for one in path.iterdir() if one.name != "files.json"):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelRefused, match=rf"altered: '{file.name}' was altered"):
            open_model(path, into(tmp_path), KEYS)
        shutil.rmtree(tmp_path / "own")
        file.write_bytes(whole + b"x")
        with pytest.raises(ModelRefused, match="more bytes than its list"):
            open_model(path, into(tmp_path), KEYS)
        shutil.rmtree(tmp_path / "own")
        file.write_bytes(whole)


def test_a_file_that_is_a_link_is_refused(model: Made, tmp_path: Path) -> None:
    path = copy(model.export, tmp_path / "linked")
    (path / "model.onnx").unlink()
    (path / "model.onnx").symlink_to(model.export / "model.onnx")
    with pytest.raises(ModelRefused, match="'model.onnx' can't be read"):
        open_model(path, into(tmp_path), KEYS)


def test_what_is_checked_is_what_is_loaded(
    model: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write where the model lies swaps the graph right after the copy."""
    path, real = copy(model.export, tmp_path / "swapped"), copied.copy_model
    with asked(model.export) as (client, _):
        wanted = client.post("/predict", json=ROW).json()

    def then_swapped(given: Path, to: Path) -> None:
        real(given, to)
        (given / "model.onnx").write_bytes(b"another graph")

    monkeypatch.setattr("wardround.client.serving.model.copy_model", then_swapped)
    own = into(tmp_path)
    found = open_model(path, own, KEYS)
    columns = Reader(found.schema, 1).of_rows(ROW["rows"])
    assert found.scores(columns)["probability"].tolist() == [
        wanted["predictions"][0]["probability"]
    ]
    assert stat.S_IMODE((own / "given").stat().st_mode) == 0o700
    with pytest.raises(ModelRefused, match="more bytes|was altered"):
        monkeypatch.undo()
        shutil.rmtree(own)
        open_model(path, into(tmp_path), KEYS)


@pytest.mark.parametrize("which", ["model", "export"])
def test_a_strangers_or_an_old_one_is_refused(which: str, model: Made, tmp_path: Path) -> None:
    path = getattr(model, which)
    with pytest.raises(ModelRefused, match="whom nobody trusts"):
        open_model(path, into(tmp_path), Trust({Identity.generate().public}, unsigned=True))
    shutil.rmtree(tmp_path / "own")
    last = date.fromisoformat(model.source.folder.listed.expires)
    with pytest.raises(ModelRefused, match="is good until"):
        open_model(path, into(tmp_path), KEYS, today=last + timedelta(days=1))
    if which == "export":  # each of the two must be known: the model's server, and who exported
        for known in (SERVER, HOSPITAL):
            shutil.rmtree(tmp_path / "own")
            with pytest.raises(ModelRefused, match="whom nobody trusts"):
                open_model(path, into(tmp_path), Trust({known.public}))


def unsigned(model: Made, to: Path) -> Path:
    """A simulation's."""
    path = copy(model.model, to)
    (path / "files.json").unlink()
    seal_folder(path, run="made-1", round=3, identity=None)
    return path


def test_one_that_nobody_signed_is_served_here_and_when_asked_to(
    model: Made, tmp_path: Path
) -> None:
    path = unsigned(model, tmp_path / "simulated")
    with pytest.raises(ConfigError, match="whose models are to be trusted"):
        with asked(path, signers=()):
            pass
    with pytest.raises(ModelRefused, match="nobody has signed"):
        with asked(path):
            pass
    with asked(path, signers=(), unsigned=True) as (client, served):
        assert not served.model.signed
        assert client.get("/model").json()["signed"] is False
    (tmp_path / "token").write_text("x" * 40)
    (tmp_path / "token").chmod(0o600)
    reach = Reach("0.0.0.0:0", tmp_path / "token", plain=True)
    beyond = Asking(path, reach, Trusting(unsigned=True))
    with pytest.raises(ConfigError, match="nobody has signed this model"):
        with opened(beyond):
            pass


def test_it_answers_no_more_once_its_last_day_has_passed(
    model: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked(model.export) as (client, served):
        assert client.get("/health").status_code == 200
        monkeypatch.setattr(
            "wardround.client.serving.model.now_utc",
            lambda: _Later(date.fromisoformat(served.model.expires) + timedelta(days=1)),
        )
        answer = client.post("/predict", json=ROW)
        assert answer.status_code == 503 and "was good until" in answer.json()["error"]
        assert client.get("/health").json() == {"status": "expired"}
        assert "wardround_serve_expired 1.0" in client.get("/metrics").text


class _Later:
    def __init__(self, day: date) -> None:
        self._day = day

    def date(self) -> date:
        return self._day


# --- calibration ----------------------------------------------------------------------------------
def calibration(model: Made, path: Path, identity: Identity | None = HOSPITAL) -> Path:
    """Twice the logit, and one more."""
    found = Calibration(
        model=model.source.folder.digest,
        run="made-1",
        kind="binary",
        method="logistic",
        intercept=1.0,
        slope=2.0,
        hospital="north",
        made="2026-11-30",
        thresholds=[{"rule": "youden", "threshold": 0.4, "figures": {}}],
    )
    path.write_bytes((sign_calibration(found, identity) if identity else found).to_bytes())
    return path


def test_a_calibration_corrects_and_is_named(model: Made, tmp_path: Path) -> None:
    import hashlib
    import math

    path = calibration(model, tmp_path / "calibration.json")
    with asked(model.export) as (client, _):
        plain = client.post("/predict", json=ROW).json()
    with asked(model.export, calibration=path) as (client, served):
        found = client.post("/predict", json=ROW).json()
        assert served.thresholds.warning == 0.4
    p = plain["predictions"][0]["probability"]
    logit = math.log(p / (1 - p))
    expected = 1 / (1 + math.exp(-(1 + 2 * max(-16.0, min(16.0, logit)))))
    assert found["predictions"][0]["probability"] == pytest.approx(expected, rel=1e-5)
    assert found["calibration"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["model"] == plain["model"] and plain["calibration"] is None


def test_another_ones_calibration_is_refused(model: Made, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"

    def refused(match: str, **more: object) -> None:
        with pytest.raises(WardroundError, match=match):
            with asked(model.export, calibration=path, **more):
                pass

    refused("can't be read")
    calibration(model, path, Identity.generate())
    refused("a key that isn't known here")
    calibration(model, path, None)
    refused("nobody has signed it")
    values = json.loads(calibration(model, path).read_text())
    path.write_text(json.dumps(values | {"slope": 3.0}))
    refused("was altered")
    path.write_text(json.dumps(values | {"model": "0" * 64}))
    refused("of another model")
    calibration(model, path, None)
    with asked(model.export, calibration=path, unsigned=True) as (_, served):
        assert not served.model.signed


def test_whom_to_trust_is_said_by_a_kit_or_keys(tmp_path: Path, model: Made) -> None:
    (tmp_path / "key").write_text(SIGNERS[0] + "\n")
    with asked(model.model, signers=[str(tmp_path / "key")]):
        pass
    with pytest.raises(ConfigError, match="is no public key"):
        with asked(model.model, signers=["zz" * 32]):
            pass
    with pytest.raises(ProvisionError):
        with asked(model.model, kit=tmp_path):
            pass


def test_a_kit_trusts_its_server_and_its_hospital(tmp_path: Path, model: Made) -> None:
    """And a calibration of nobody but the hospital."""
    config = federation(tmp_path)
    provisioned = provision.provision(config)
    kit, server = Kit.open(provisioned.kits[0]), load_server_folder(config)

    def signed(path: Path, identity: Identity, source: str = "") -> Path:
        to = copy(path, tmp_path / f"{path.name}-{identity.public.hex()[:8]}")
        (to / "files.json").unlink()
        seal_folder(to, run="made-1", round=3, identity=identity, source=source)
        return to

    own = signed(model.model, server.identity)
    with asked(own, signers=(), kit=kit.folder) as (client, served):
        assert served.model.signed and client.post("/predict", json=ROW).status_code == 200
        digest = served.model.digest
        assert served.model.reference is None
        counts = Counts(
            fields_of(served.model.schema),
            {one.key: np.arange(one.size) for one in fields_of(served.model.schema)},
        )
    assert not (kit.folder / "state").exists(), "a kit may be one that is only read"
    # its own counts of this model's study, and not of another's, are what rows are held against
    for name, of in (("older", model.model), ("this", own)):
        results = kit.folder / "results" / name
        copy(of, results / "model")
        (results / "own").mkdir()
        whose = counts if name == "this" else counts + counts
        (results / "own" / "reference.json").write_text(Reference(whose).to_text())
    with asked(own, signers=(), kit=kit.folder) as (_, served):
        reference = served.model.reference
        assert reference is not None and reference.sums().keys() == counts.sums().keys()
        assert all((reference.cells[key] == one).all() for key, one in counts.cells.items())
    with pytest.raises(ModelRefused, match="whom nobody trusts"):
        with asked(model.model, signers=(), kit=kit.folder):
            pass
    path = calibration(model, tmp_path / "calibration.json", None)
    values = replace(read_calibration(path), model=digest)
    for identity, known in ((kit.identity, True), (server.identity, False)):
        path.write_bytes(sign_calibration(values, identity).to_bytes())
        with nullcontext() if known else pytest.raises(WardroundError, match="a key that isn't"):
            with asked(own, signers=(), kit=kit.folder, calibration=path):
                pass
