"""Images of a real archive: fetched both ways, resumed, bounded, without an identifier on disk."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from tests import orthanc
from tests.client.sources import studies
from tests.orthanc import Orthanc
from wardround.client.sources.kept import KeptData, Located
from wardround.client.sources.kinds import KINDS
from wardround.client.sources.pacs import fetch
from wardround.client.sources.pacs.archive import ArchiveAway
from wardround.client.sources.pacs.settings import ArchiveTable
from wardround.client.sources.readers import files_of, look
from wardround.client.sources.source import Asked
from wardround.common.config.load import parse_config
from wardround.common.durable.private import private_folder
from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.read import read_images
from wardround.simulations import simulate

CLASSES = ["normal", "pneumonia"]
TASK = f'[task]\nname = "imaging"\nclasses = {CLASSES}\nsize = [8, 8, 8]\n'
ROUND = """federation.rounds = 1
secure_aggregation.enabled = false
simulation.baselines = false
data.test_fraction = 0.0
"""
SCANS = range(1, 7)
"""One scan each, with a survey beside it; the last one is in one object of many frames."""
SEVERAL, SHELL, SHOWS = 7, 8, 9


@dataclass(frozen=True)
class Pacs:
    """An archive with studies, and the files that were sent there."""

    orthanc: Orthanc
    sent: Path


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    if reason := orthanc.missing():
        pytest.skip(reason)
    sent = tmp_path_factory.mktemp("sent")
    files = []
    for number in SCANS[:-1]:
        files += studies.series(sent, number) + studies.localiser(sent, number)
    files += studies.enhanced(sent, SCANS[-1]) + studies.localiser(sent, SCANS[-1])
    files += studies.series(sent, SEVERAL)
    sagittal = {"direction": studies.SAGITTAL, "SeriesDescription": "SAG BONE"}
    files += studies.series(sent, SEVERAL, 2, **sagittal)
    files += studies.shell(sent, SHELL)
    files += studies.series(sent, SHOWS, BurnedInAnnotation="YES")
    with orthanc.running() as archive:
        archive.call(lambda: _send(files))
        yield Pacs(archive, sent)


def _send(files: list[Path]) -> None:
    import requests
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.auth, session.trust_env = (orthanc.USER, orthanc.PASSWORD), False
    client = DICOMwebClient(Orthanc.url, session=session)
    client.store_instances([pydicom.dcmread(file) for file in files])


FILES = {"ca": "ca", "certificate": "cert", "key": "key"}
WAYS = {
    "dicomweb": {"url": Orthanc.url, "user": orthanc.USER, "password": "file:word"},
    "get": {},
    "move": {"retrieve": "move", "listen": f"127.0.0.1:{orthanc.MOVE_PORT}"},
}


def source(base: Path, way: str = "dicomweb", **keys: object) -> ArchiveTable:
    """The table of ``site.toml``, with the secret that it names."""
    word = base / "word"
    word.write_text(orthanc.PASSWORD + "\n")
    word.chmod(0o600)
    said = dict(WAYS[way]) | {"source": "dicomweb" if way == "dicomweb" else "dicom"}
    if way != "dicomweb":
        said |= {"host": "127.0.0.1", "port": orthanc.DICOM_PORT, "archive_title": orthanc.TITLE}
    if "query" not in keys:
        keys = {"wanted": "wanted.csv"} | keys
    made = KINDS[str(said["source"])].model_validate({"retries": 0, **said, **keys})
    assert isinstance(made, ArchiveTable)
    return made


def label(number: int) -> str:
    return CLASSES[number % 2]


def wanted(base: Path, numbers: list[int], text: str = "") -> None:
    """``wanted.csv``: a row for each study."""
    rows = [f"{studies.uid(number)},{label(number)}" for number in numbers]
    (base / "wanted.csv").write_text(text or "\n".join(["StudyInstanceUID,label", *rows]) + "\n")


@dataclass
class Site:
    """A hospital's folder, what it says in its log, and what it fetches."""

    pacs: Pacs
    base: Path

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self.folder = self.base / "state" / "taken-1"

    def asked(self, task: str = TASK) -> Asked:
        return Asked(parse_config(task), self.base, "ct", self.said.append)

    def fetch(self, table: ArchiveTable, task: str = TASK) -> tuple[LeftOut, ...]:
        folder = private_folder(self.folder)
        return self.pacs.orthanc.call(lambda: files_of(table).fill(self.asked(task), folder))


@pytest.fixture(autouse=True)
def _library_sockets() -> Iterator[None]:
    """pynetdicom leaves sockets of associations that broke to be collected: here, not within
    another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power cuts."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def site(pacs: Pacs, tmp_path: Path) -> Site:
    return Site(pacs, tmp_path)


def images(folder: Path, task: str = TASK) -> Images:
    return read_images(folder, ImagingOptions(**parse_config(task).task.options))


def by_hand(site: Site, numbers: Iterable[int]) -> Images:
    """The same scans as a hospital would lay them out by hand: a folder for each in its class."""
    lay_out(site.pacs.sent, site.base / "by-hand", numbers)
    return images(site.base / "by-hand")


def lay_out(sent: Path, folder: Path, numbers: Iterable[int]) -> None:
    """A folder for each scan in the one of its class."""
    for number in numbers:
        target = folder / label(number) / f"{number}"
        target.mkdir(parents=True)
        for file in sent.glob(f"{number}-1-*.dcm"):
            shutil.copy(file, target)


WORDS = [studies.NAME.encode(), studies.BIRTH.encode(), b"MRN-", b"ACC", b"St. Elsewhere"]
WORDS += [studies.ROOT.encode()]


def traces(folder: Path) -> list[str]:
    """Files that hold, or are named by, something that says who a patient is."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(word in content or word in str(path).encode() for word in WORDS):
            found.append(str(path))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_what_is_fetched_is_what_lies_in_a_folder_by_hand(
    site: Site, way: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)  # as one who looks for a fault would have it
    numbers = list(SCANS) if way == "dicomweb" else list(SCANS)[-3:]
    wanted(site.base, numbers)
    table = source(site.base, way)
    answer = site.pacs.orthanc.call(lambda: look(table, site.asked()))
    assert "answers" in answer
    assert site.fetch(table) == ()
    found, expected = images(site.folder), by_hand(site, numbers)
    order = np.argsort([n % 2 for n in numbers], kind="stable")  # classes come one after the other
    assert torch.equal(found.pixels[order], expected.pixels)
    assert found.labels.tolist() == [n % 2 for n in numbers]
    assert found.patients is not None and expected.patients is not None
    assert found.patients.tolist() == [identifier_digest(studies.patient(n)) for n in numbers]
    assert found.patients[order].tolist() == expected.patients.tolist(), "one patient, one digest"
    assert traces(site.folder) == []
    told = caplog.text + "".join(capfd.readouterr()) + str(site.said)
    assert not [word for word in WORDS if word.decode() in told]
    assert not site.folder.with_name("taken-1-quarantine").exists()
    assert {path.stat().st_mode & 0o077 for path in site.folder.rglob("*")} == {0}


def test_studies_are_known_by_other_numbers_and_found_by_queries(site: Site) -> None:
    rows = [f"ACC{n},,{label(n)},{n % 3},train" for n in (1, 2)]
    rows += [f",{studies.patient(n)},{label(n)},{n % 3},test" for n in (3, 4)]
    head = "AccessionNumber,PatientID,diagnosis,patient,split\n"
    wanted(site.base, [], head + "\n".join(rows))
    task = TASK + '[task.files]\nimage = "path"\npatient_id = "who"\nsplit = "part"\n'
    site.fetch(source(site.base, "get", columns={"label": "diagnosis"}), task)
    found = images(site.folder, task)
    assert found.splits is not None and found.splits.tolist() == ["train"] * 2 + ["test"] * 2
    assert found.patients is not None
    assert found.patients.tolist() == [identifier_digest(str(n % 3)) for n in (1, 2, 3, 4)]
    # by query: every study but the shell, whose modality is another, and what is excluded
    query = {
        "label": "normal",
        "modality": "CT",
        "description": "*thorax",
        "dates": ["2024-01-01"] * 2,
    }
    shutil.rmtree(site.folder)
    with pytest.raises(DataError, match=r"\[data.ct\] query 1: none of 0 studies"):
        site.fetch(source(site.base, query=[query]))
    query["dates"] = ["2024-01-01", "2024-12-31"]
    series = {"without": ["sag*"]}
    left = site.fetch(source(site.base, query=[query], series=series, left_out_share=0.2))
    assert left == (LeftOut(1, "studies", fetch.NOT_USED),)
    assert len(images(site.folder)) == 7
    assert len(site.said) == 1 and "BurnedInAnnotation" in site.said[0]


def test_a_study_of_several_volumes_is_refused_with_what_chooses_one(site: Site) -> None:
    wanted(site.base, [SEVERAL, 1])
    with pytest.raises(DataError, match="1 of 2 rows .* left_out_share = 0.01 allows 0"):
        site.fetch(source(site.base))
    (line,) = site.said
    assert line.startswith("wanted.csv:2: left out: several of its series are volumes")
    assert "SeriesInstanceUID" in line and "[data.NAME.series]" in line
    for choice in ({"description": ["ax*"]}, {"without": ["SAG*"]}):
        site.fetch(source(site.base, series=choice))
        assert len(images(site.folder)) == 2
    uid = studies.uid(SEVERAL, 2)
    text = f"StudyInstanceUID,SeriesInstanceUID,label\n{studies.uid(SEVERAL)},{uid},normal\n"
    wanted(site.base, [], text)
    site.fetch(source(site.base))
    assert len(images(site.folder)) == 1


def test_bad_studies_are_left_out_up_to_a_share_and_named_at_home_only(site: Site) -> None:
    wanted(site.base, [1, SHELL, 2, SHOWS, 3, 77])
    table = source(site.base, "get", left_out_share=0.5)
    assert site.fetch(table) == (LeftOut(3, "studies", fetch.NOT_USED),)
    assert [line.partition(": left out: ")[::2] for line in site.said] == [
        ("wanted.csv:3", "none of its 1 series holds images that [data.NAME.series] means"),
        ("wanted.csv:5", "its pixels show who the patient is (BurnedInAnnotation)"),
        ("wanted.csv:7", "the archive has no such series, or an empty study"),
    ]
    assert len(images(site.folder)) == 3 and traces(site.folder) == []
    # what the study's own rules leave out counts against no share
    site.said.clear()
    wanted(site.base, [1, SHOWS])
    left = site.fetch(source(site.base), TASK + 'burned_in = "drop"\n')
    assert left == (LeftOut(1, "studies", fetch.BY_RULE),)


def test_an_archive_that_goes_away_is_gone_on_with_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted(site.base, [1, 2, 3])
    table, real = source(site.base, retries=1), fetch.Fetch.fetched
    waited: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", waited.append)

    def away(self: object, number: int, item: object) -> object:
        if number == 1:
            raise ArchiveAway("[data.ct]: the service can't be reached")
        return real(self, number, item)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch.Fetch, "fetched", away)
    with pytest.raises(ArchiveAway, match="start again later, and it goes on"):
        site.fetch(table)
    assert waited == [1.0]
    monkeypatch.setattr(fetch.Fetch, "fetched", real)
    site.fetch(table)
    assert site.said == ["goes on: 1 of 3 are there"] and len(images(site.folder)) == 3
    monkeypatch.setattr(fetch.Fetch, "fetched", away)
    site.fetch(table)  # it is whole: nothing is asked


def test_what_an_archive_refuses_is_said_with_the_mend_and_in_our_words(site: Site) -> None:
    wanted(site.base, [1])
    nobody = "http://127.0.0.1:9/dicom-web"
    cases: list[tuple[str, dict[str, object], str]] = [
        ("dicomweb", {"user": "someone"}, r"refuses this user \(HTTP 401\); check user and passw"),
        ("dicomweb", {"url": nobody}, r"can't be reached \(ConnectionError\); is it up"),
        ("dicomweb", {"url": f"{Orthanc.url}/none"}, r"answered HTTP 404; ask whoever runs"),
        ("dicomweb", {"url": Orthanc.url.replace("http", "https")}, r"certificate|reached"),
        ("get", {"archive_title": "OTHER"}, r"refuses the call; enter the AE title 'WARDROUND'"),
        ("get", {"port": 9}, r"127.0.0.1:9 can't be reached; is it up"),
        ("move", {"listen": "192.0.2.1:11112"}, r"can't be listened at .*; name an address of th"),
    ]
    for way, keys, text in cases:
        table = source(site.base, way, timeout_s=5, **keys)
        with pytest.raises(DataError, match=text) as error:
            site.pacs.orthanc.call(lambda: look(table, site.asked()))
        assert str(error.value).startswith("[data.ct]") and "MRN" not in str(error.value)
    with pytest.raises(ArchiveAway, match="broke off in C-FIND; does it allow that to 'STRANGER'"):
        site.fetch(source(site.base, "get", title="STRANGER"))


def test_over_tls_both_sides_know_each_other_or_nothing_is_sent(pacs: Pacs, tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        folder.mkdir()
        orthanc.certificates(folder)

    def keys(name: str) -> dict[str, object]:
        files = {key: f"{name}/{file}.pem" for key, file in FILES.items()}
        return {"tls": True, "timeout_s": 5, **files}

    wanted(tmp_path, [1])
    with orthanc.running(ours) as archive:
        site = Site(Pacs(archive, pacs.sent), tmp_path)
        archive.call(lambda: _send(sorted(pacs.sent.glob("1-1-*.dcm"))))
        for way in ("get", "move"):
            site.folder = tmp_path / f"state-{way}" / "taken-1"
            site.fetch(source(tmp_path, way, **keys("ours")))
            assert len(images(site.folder)) == 1
        for said in (keys("others"), {"timeout_s": 5}):
            with pytest.raises(ArchiveAway, match="can't be reached; is it up, are host, port an"):
                archive.call(lambda: look(source(tmp_path, "get", **said), site.asked()))
    (ours / "key.pem").chmod(0o644)
    with pytest.raises(DataError, match="others on this machine may read this secret"):
        look(source(tmp_path, "get", **keys("ours")), site.asked())


def test_a_federation_trains_on_what_its_archives_give(site: Site) -> None:
    """As a client does it: the data that site.toml names are taken when a study begins."""
    config, models = parse_config(TASK), []
    sites, by_hand = site.base / "sites", site.base / "by-hand"
    for way, numbers in {"get": [2, 1, 3], "dicomweb": [4, 6, 5]}.items():
        wanted(site.base, numbers)
        kept = KeptData(site.base / f"state-{way}")
        located = Located.of("ct", source(site.base, way), site.base)
        site.pacs.orthanc.call(partial(kept.take_up, located, config))
        assert kept.path is not None and kept.left_out == ()
        shutil.copytree(kept.path, sites / way)
        lay_out(site.pacs.sent, by_hand / way, numbers)
    for folder in (sites, by_hand):
        overrides = [f'federation.runs="{site.base / folder.name}-runs"', f'data.path="{folder}"']
        path = site.base / f"{folder.name}.toml"
        path.write_text(ROUND + TASK + "[task.model]\nwidth = 8\n")
        run = simulate(path, overrides=overrides).run_directory
        models.append((run / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1], "the same model as from the hospitals' own files"
