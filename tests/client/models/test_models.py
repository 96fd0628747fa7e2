"""A model at a hospital: found, believed only where it may be, given rows as a study has them."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tests.client.models.kits import AtHome, at_home
from wardround.client.models.find import find_model
from wardround.client.models.outputs import score
from wardround.client.models.rows import rows_for
from wardround.client.models.signers import trusted_keys
from wardround.client.models.unseen import NOT_KNOWN, unseen
from wardround.client.site.held_out import held_out_key
from wardround.client.site.opted_out import change_list, opt_out_path, patients_key
from wardround.client.site.policy import load_site
from wardround.client.site.trained import Trained, TrainedOn
from wardround.common.audit.log import AuditLog
from wardround.common.errors import DataError, ModelRefused, PolicyRefused
from wardround.common.model_folder.write import seal_folder
from wardround.common.results.package import Package, list_digest, listed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AtHome:
    return at_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def site(home: AtHome) -> Path:
    """site.toml, put back after the test."""
    before = home.kit.site_path.read_text()
    yield home.kit.site_path  # type: ignore[misc]
    home.kit.site_path.write_text(before)


def test_a_model_is_found_by_name_path_or_as_the_newest(home: AtHome, tmp_path: Path) -> None:
    kit = home.kit
    digest = find_model(kit).digest
    assert find_model(kit, home.run.name).digest == digest
    assert find_model(kit, home.run.name[:8]).digest == digest
    assert find_model(kit, str(home.model)).digest == digest
    shutil.copytree(home.model, kit.folder / "models" / "heart-2")
    assert find_model(kit, "heart-2").digest == digest
    shutil.rmtree(kit.folder / "models")
    with pytest.raises(ModelRefused, match=rf"'heart-3' is no model of this kit.*{home.run.name}"):
        find_model(kit, "heart-3")


def test_only_the_kits_server_and_the_hospital_itself_are_believed(
    home: AtHome, tmp_path: Path
) -> None:
    kit, today = home.kit, date(2026, 12, 1)
    stranger = at_home_key()
    for identity, message in ((None, "nobody has signed"), (stranger, "whom nobody trusts")):
        copy = tmp_path / message.split()[0]
        shutil.copytree(home.model, copy)
        seal_folder(copy, run="r", round=4, identity=identity)
        with pytest.raises(ModelRefused, match=message):
            find_model(kit, str(copy), today=today)
        if identity is None:
            assert find_model(kit, str(copy), unsigned=True, today=today)
        else:
            with pytest.raises(ModelRefused, match=message):
                find_model(kit, str(copy), unsigned=True, today=today)
    seal_folder(copy, run="r", round=4, identity=kit.identity)
    assert find_model(kit, str(copy)).listed.signer == kit.identity.public.hex()
    with pytest.raises(ModelRefused, match="is good until"):
        find_model(kit, today=date(2099, 1, 1))
    (copy / "preparation.safetensors").write_bytes(b"other")
    with pytest.raises(ModelRefused, match=r"'preparation.safetensors' was altered"):
        find_model(kit, str(copy))


def test_an_earlier_key_counts_for_what_came_under_it(home: AtHome) -> None:
    """One that was stolen and replaced signs nothing new here."""
    kit, earlier = home.kit, at_home_key()
    came = kit.folder / "results" / "came-1"
    shutil.copytree(home.model, came / "model")
    digest = seal_folder(came / "model", run="came-1", round=4, identity=earlier)
    files = (listed(came, "model/files.json"),)
    package = Package(network="heart", study="", run="came-1", round=4, files=files)
    signed = package.signed(earlier)
    (came / "files.json").write_bytes(signed)
    forged = kit.folder / "models" / "forged"
    shutil.copytree(home.model, forged)
    seal_folder(forged, run="came-1", round=5, identity=earlier)
    with pytest.raises(ModelRefused, match="whom nobody trusts"):
        find_model(kit, str(came))
    with AuditLog.open(kit.state / "audit.jsonl", "north", kit.identity) as audit:
        audit.append("results", digest=list_digest(signed), signer=earlier.public.hex())
    assert find_model(kit, str(came)).digest == digest
    assert earlier.public in trusted_keys(kit, digest) - trusted_keys(kit)
    with pytest.raises(ModelRefused, match="whom nobody trusts"):
        find_model(kit, str(forged))
    shutil.rmtree(came)
    shutil.rmtree(forged.parent)


def at_home_key():  # type: ignore[no-untyped-def]
    from wardround.common.trust.identity import Identity

    return Identity.generate()


def test_rows_are_mapped_held_back_and_without_who_has_opted_out(home: AtHome, site: Path) -> None:
    kit = home.kit
    folder = find_model(kit)
    own = home.data.with_name("own.csv")
    own.write_text(home.data.read_text().replace("x,z,who", "ex,z,who", 1))
    site.write_text(
        f'[data.recent]\nsource = "file"\npath = "{own}"\npatient_id = "who"\n'
        'map.rename = { x = "ex" }\n'
    )
    with rows_for(kit, folder) as raw, rows_for(kit, folder, str(home.data)) as same:
        assert folder.task.size(raw) == 400
        assert np.array_equal(raw.numbers("x"), same.numbers("x"))
    key = patients_key(held_out_key(load_site(site), kit.folder))
    change_list(opt_out_path(load_site(site), kit.folder), key, ["P7-3"])
    with rows_for(kit, folder, "recent") as raw:
        assert folder.task.size(raw) == 398
    change_list(opt_out_path(load_site(site), kit.folder), key, ["P7-3"], undo=True)
    site.write_text(f'columns = ["x", "who", "out"]\n{site.read_text()}')
    with pytest.raises(PolicyRefused, match="the study asks for column 'z'"), rows_for(kit, folder):
        pass
    assert not list(kit.state.glob(".rows-*"))
    with pytest.raises(DataError, match=r"nor \[data.NAME\] in site.toml"):
        with rows_for(kit, folder, "recnt"):
            pass


def test_rows_that_a_model_was_trained_on_are_known_by_whose_they_are(home: AtHome) -> None:
    kit, folder = home.kit, find_model(home.kit)
    key = patients_key(held_out_key(load_site(kit.site_path), kit.folder))
    with rows_for(kit, folder, str(home.data)) as raw:
        left, unknown = unseen(kit, folder, raw)
        assert folder.task.size(left) == 400 and unknown == NOT_KNOWN
        note = TrainedOn(home.run.name, "", "heart")
        Trained(kit.state, key).note(note, 1, ["p7-0", "P7-1", "P9-1"], 1)
        left, unknown = unseen(kit, folder, raw)
        assert folder.task.size(left) == 396 and unknown == ""
        held, _ = unseen(kit, folder, raw, held_out=True)
        assert 20 < folder.task.size(held) < 200
    shutil.rmtree(kit.state / "trained")


def test_scores_are_the_predictors_and_targets_in_their_own_unit(tmp_path: Path) -> None:
    home = at_home(tmp_path, "regression", 40)
    folder = find_model(home.kit)
    with rows_for(home.kit, folder, str(home.data)) as raw:
        found = score(home.kit, folder, raw)
        examples = folder.task.prepare(raw, folder.totals, raw)
        expected = folder.module()(examples.inputs)[:, 0].detach().numpy()
    assert found.predictions["prediction"] == pytest.approx(expected)
    written = [float(line.split(",")[-1]) for line in home.data.read_text().splitlines()[1:]]
    assert found.targets == pytest.approx(written, rel=1e-5)
    assert found.groups.tolist() == [found.groups[n - n % 2] for n in range(40)] and found.patients
