"""A researcher's side against the interface on a real port: from a file to results, and back."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.networks import STUDY
from tests.networks import Network as Served
from wardround.client.researcher.calls import Away
from wardround.client.researcher.network import Network, StudyHandle
from wardround.client.researcher.showing import standing
from wardround.common.errors import (
    ConfigError,
    ProvisionError,
    ResultsRefused,
    StudyRefused,
    StudyUnknown,
    WardroundError,
)
from wardround.common.process.main import app
from wardround.common.results.package import Listed, Package
from wardround.common.trust.identity import Identity
from wardround.server.provision import kits as provision
from wardround.server.studies.desk import Progress


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    network = Served(tmp_path_factory.mktemp("network"))
    yield network
    network.close()


@pytest.fixture
def anna(served: Served) -> Iterator[Network]:
    with Network(served.kits / "anna") as network:
        yield network


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "study.toml"
    name = request.node.name.replace("_", "-")[:40].strip("-")
    path.write_text(STUDY.format(name=name))
    return path


def packaged(served: Served, handle: StudyHandle, folder: Path, signer: Identity) -> Package:
    """Results of a study at the server."""
    files = {"config.toml": b"x = 1\n", "model/m.bin": bytes(range(256)) * 5000, "empty": b""}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    listed = tuple(
        Listed(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in sorted(files.items())
    )
    run = handle.signed().study.run
    package = Package(network="trust", study=handle.id, run=run, round=3, files=listed)
    (folder / "files.json").write_bytes(package.signed(signer))
    served.desk.packages[handle.id] = {name: folder / name for name in ("files.json", *files)}
    return package


def test_a_file_becomes_a_study_once(served: Served, anna: Network, file: Path) -> None:
    study = anna.prepare(file)
    shown = dict(anna.facts(study))
    assert shown["purpose"] == "Does it work?" and shown["of"] == "north, south"
    assert shown["target"] == "malignant" and shown["fewest that do"] == "2 of 2"
    assert shown["training"].startswith("3 rounds of ") and shown["aggregation"].startswith(
        "secure"
    )
    asked = dict(anna.facts(anna.prepare(file, ["procedure.name=describe"])))
    assert asked["procedure"] == "describe: no model is trained" and "training" not in asked
    assert not anna.studies()._repr_html_().count(study.id[:12])  # nothing was sent
    handle = anna.submit(file)
    again = anna.submit(file, ())
    assert handle.new and not again.new and again.id == handle.id == study.id
    assert handle.signed().study == study and handle.state == "submitted"
    assert "waiting for north, south" in repr(handle) and study.name in handle._repr_html_()
    assert anna.study(study.id[:8]).id == anna.study(study.name).id == study.id
    assert study.id[:12] in repr(anna.studies()) and not anna.studies("complete")
    other = anna.submit(file, ["federation.rounds=4"])
    assert other.new and other.id != study.id
    served.desk.store.decide(study.id, "south", "rejected", "not now")
    assert [(one.hospital, one.word, one.reason) for one in handle.decisions()] == [
        ("north", "waiting", ""),
        ("south", "rejected", "not now"),
    ]
    assert standing(handle.refresh().line) == "waiting for north"
    served.desk.bring(study.id, "waiting")
    served.desk.store.decide(study.id, "north", "rejected", "nor now")
    assert standing(handle.refresh().line) == "waiting: too few hospitals have accepted"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            ('["north", "south"]', '["north", "west"]'),
            StudyRefused,
            "hospitals: 'west' is no",
        ),
        (("min_clients = 2", "min_clients = 5"), StudyRefused, "federation.min_clients is 5"),
        (("purpose", "purpos"), ConfigError, "study.purpos"),
        (("rounds = 3", "rounds = 0"), ConfigError, "federation.rounds"),
        (
            ("[task.columns]", "[task]\nmodel = 'mlp'\n[task.columns]"),
            ConfigError,
            r"study.toml:\d+: task.model: is a table of keys, not 'mlp'; write \[task.model\]",
        ),
        (("[federation]", "ends = 2020-01-01\n[federation]"), StudyRefused, "study.ends: it ended"),
    ],
)
def test_a_mistake_names_the_key_before_anything_is_sent(
    anna: Network, file: Path, change: tuple[str, str], kind: type[WardroundError], message: str
) -> None:
    file.write_text(STUDY.format(name="wrong").replace(*change, 1))
    with pytest.raises(kind, match=message) as caught:
        anna.submit(file)
    assert "\n" not in str(caught.value)
    assert not [line for line in anna.studies() if line.name == "wrong"]


def test_a_tasks_own_file_is_in_the_study(anna: Network, file: Path) -> None:
    task = file.with_name("task.py")
    task.write_text("# one\n")
    text = STUDY.format(name="own-file").replace("[task.columns]\n", "[task]\nname = 'task.py:T'\n")
    file.write_text(text.replace('numeric = ["*"]\n', "").replace('target = "malignant"\n', ""))
    one = anna.prepare(file)
    assert one.task_sha256 == hashlib.sha256(b"# one\n").hexdigest()
    task.write_text("# two\n")
    assert anna.prepare(file).id != one.id


def test_what_a_study_says_cant_write_on_a_terminal(
    served: Served, anna: Network, file: Path
) -> None:
    text = file.read_text().replace('["*"]', '["a\\u001b[2Jb"]').replace("Does it work?", "x\\ny")
    file.write_text(text)
    handle = anna.submit(file)
    with Network(served.kits / "office") as office:
        shown = office.facts(office.study(handle.id).signed().study)
    assert ("numeric", "a [2Jb") in shown and ("purpose", "x y") in shown
    assert all(text.isprintable() for fact in shown for text in fact)


def test_others_kits(served: Served, anna: Network, file: Path) -> None:
    handle = anna.submit(file)
    with Network(served.kits / "bert") as bert:
        with pytest.raises(StudyUnknown, match="no such study"):
            bert.study(handle.id)
    with Network(served.kits / "office") as office:
        assert office.study(handle.id).id == handle.id
        with pytest.raises(StudyRefused, match=r"is the kit of coordinator 'office'; a researcher"):
            office.submit(file)
        with pytest.raises(StudyRefused, match="is anna's, who can repeat it"):
            office.study(handle.id).rerun()
        assert office.study(handle.id).abort("office says so").line.state == "aborted"
    assert handle.refresh().line.reason == "office says so"
    with pytest.raises(StudyRefused, match=r"no results: aborted: office says so"):
        handle.result()
    with pytest.raises(ProvisionError, match="no kit is there; name the folder with --kit"):
        Network(file.parent)


def test_watching_tells_each_thing_once(served: Served, anna: Network, file: Path) -> None:
    handle, desk = anna.submit(file), served.desk
    told = []
    for update in handle.watch():
        told.append(str(update))
        assert handle.name in update._repr_html_() and handle.name in repr(update)
        if told[-1] == "waiting for north, south":
            desk.bring(handle.id, "waiting")
            desk.store.decide(handle.id, "north", "accepted")
            desk.store.decide(handle.id, "south", "rejected", "not <b>now</b>")
            row = desk.store.get(handle.id)
            desk.store.change(handle.id, "queued", expect="waiting", fence=row.fence, who="server")
            desk.store.claim("test", 100.0, 100)
            desk.rounds[handle.id] = Progress(1, 3)
        elif told[-1] == "round 1 of 3":  # both at once: what came first is told first
            desk.rounds[handle.id] = Progress(3, 3)
            row = desk.store.get(handle.id)
            desk.store.change(
                handle.id, "complete", expect="running", fence=row.fence, who="server"
            )
    told = [one for one in told if one != "waiting for south"]  # between the two decisions
    assert told == [
        "submitted",
        "waiting for north, south",
        "waiting",
        "north has accepted",
        "south has rejected: not <b>now</b>",
        "queued",
        "running",
        "round 1 of 3",
        "round 3 of 3",
        "complete",
    ]
    assert handle.line.state == "complete" == handle.wait()


def test_results_come_under_the_servers_signature(
    served: Served, anna: Network, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handle = anna.submit(file)
    with pytest.raises(StudyRefused, match="no results: waiting for"):
        handle.result(wait=False)
    served.desk.bring(handle.id, "complete")
    with pytest.raises(StudyRefused, match="its results aren't made yet"):
        handle.result()
    there = tmp_path / "there"
    package = packaged(served, handle, there, Identity.generate())
    with pytest.raises(ResultsRefused, match="isn't signed by the server"):
        handle.result()
    packaged(served, handle, there, served.desk.server)
    model = there / "model" / "m.bin"
    right = model.read_bytes()
    model.write_bytes(right[:-1])
    seen: list[tuple[str, int]] = []
    with pytest.raises(ResultsRefused, match="comes as another file"):
        handle.result(progress=lambda name, here, size: seen.append((name, here)))
    model.write_bytes(right)
    folder = handle.result(progress=lambda name, here, size: seen.append((name, here)))
    assert folder == Path("results") / handle.signed().study.run
    assert {one.name: (folder / one.name).read_bytes() for one in package.files} == {
        one.name: (there / one.name).read_bytes() for one in package.files
    }
    assert sum(name == "config.toml" for name, _ in seen) == 1  # not asked for twice
    assert handle.result() == folder  # again does nothing
    (tmp_path / "results").rename(tmp_path / "kept")
    model.write_bytes(right[:-1] + b"!")
    with pytest.raises(ResultsRefused, match="digest"):
        handle.result()
    assert not folder.exists()


def test_a_server_that_goes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path)
    (tmp_path / "s.toml").write_text(STUDY.format(name="patient"))
    with Network(served.kits / "anna") as anna:
        handle = anna.submit(tmp_path / "s.toml")
        updates = handle.watch()
        assert str(next(updates)) == "submitted"
        served.stop()
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        told = []
        for update in updates:
            told.append(str(update))
            if "trying again" in told[-1]:
                with pytest.raises(Away, match=r"refused the connection|the connection|stops"):
                    handle.refresh()
                served.start()
                served.desk.bring(handle.id, "waiting")
                row = served.desk.store.get(handle.id)
                served.desk.store.change(
                    handle.id, "failed", expect="waiting", fence=row.fence, who="server"
                )
        assert sum("trying again" in line for line in told) == 1
        assert told[-2:] == ["waiting", "failed"] and told.count("waiting for north, south") == 1
    served.close()


def test_who_is_revoked_is_told_and_a_newer_description_is_kept(
    tmp_path: Path,
) -> None:
    served = Served(tmp_path)
    try:
        with Network(served.kits / "bert") as bert:
            order = bert.kit.description.order
            for name in ("anna", "bert"):
                (served.kits / name).rename(tmp_path / name)  # handed over
            provision.add(served.config, "cleo", role="researcher")
            assert served.description.look_again()
            with Network(tmp_path / "anna") as anna:
                assert anna.kit.description.order > order
            provision.revoke(served.config, "bert")
            assert served.description.look_again()
            with pytest.raises(ProvisionError, match=r"accept researcher 'bert': .*roster"):
                bert.studies()
    finally:
        served.close()


def test_the_commands(
    served: Served, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_KIT", str(served.kits / "anna"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, error: str = "") -> str:
        done = CliRunner().invoke(app, ["study", *arguments])
        if error:
            assert isinstance(done.exception, WardroundError) and error in str(done.exception)
            assert done.exception.exit_code not in (0, 1)
        else:
            assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    shown = call("submit", "--show")
    assert "Does it work?" in shown and "submitted" not in shown
    first = call("submit", "study.toml")
    with Network() as network:
        (line,) = [one for one in network.studies() if one.name in first]
    assert f"submitted: {line.name} ({line.id[:12]})" in first
    assert first.splitlines()[-1] == f"next: wardround study watch {line.id[:12]}"
    again = call("submit", "--kit", str(served.kits / "anna"))
    assert "this very study was submitted before" in again
    assert again.endswith(f"watch {line.id[:12]} --kit {served.kits / 'anna'}\n")
    assert line.id[:12] in call("list")
    assert "north" in call("show", line.name) and "fetch" not in call("list")
    call("fetch", line.name, error="has no results: waiting for north, south")
    call("rerun", line.name, error="abort it first, or wait for its end")
    assert "aborted" in call("abort", line.name, "--reason", "a typo")
    told = call("watch", line.name, error="has no results: aborted: a typo")
    assert "aborted by researcher anna: a typo" in told
    assert line.id[:12] not in call("list") and line.id[:12] in call("list", "--all")
    again = call("rerun", line.name)
    assert "submitted" in again and line.id[:12] not in again
    with Network() as network:
        handle = network.study(line.name)
        served.desk.bring(handle.id, "complete")
        packaged(served, handle, tmp_path / "there", served.desk.server)
    assert f"next: wardround study fetch {handle.id[:12]}" in call("watch", handle.name)
    done = call("fetch", handle.name, "out")
    assert "model/m.bin: 1280000 bytes" in done and "as the server signed it" in done
    assert (tmp_path / "out" / "model" / "m.bin").stat().st_size == 1_280_000
    call("show", "none-such", error="'none-such': no such study")
    call("show", "../x", error="is no name and no id of a study")


def test_enrolment_makes_a_kit(served: Served, tmp_path: Path) -> None:
    kit = tmp_path / "dora"
    done = CliRunner().invoke(app, ["study", "enroll", "dora", str(kit)])
    assert done.exit_code == 0 and "compare by phone" in done.output
    _, made = provision.enroll(served.config, kit / "dora.request")
    assert served.description.look_again()
    done = CliRunner().invoke(app, ["study", "enroll", str(kit), "--answer", str(made.answers[0])])
    assert done.exit_code == 0 and "the kit of researcher 'dora' for 'trust'" in done.output
    with Network(kit) as network:
        assert not network.studies() and "as researcher 'dora'" in repr(network)
        assert "dora" in network._repr_html_()


def test_doctor_looks_at_a_researchers_kit(served: Served) -> None:
    done = CliRunner().invoke(app, ["doctor", str(served.kits / "bert")])
    found = {line.split(":")[0].split()[-1]: line for line in done.output.splitlines()}
    assert done.exit_code == 0 and "with this researcher's certificate" in done.output
    assert {"kit", "certificate", "description", "server", "clock"} <= set(found)
    assert "policy" not in found and "data" not in found


def test_a_program_is_held_to_tls13_before_it_imports_grpc() -> None:
    code = (
        "from wardround.client.researcher import Network\n"
        "from wardround.common.transport.only_tls13 import check_held\n"
        "check_held()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
