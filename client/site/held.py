"""``wardround client held KIT PATIENT``: which models were trained on a patient's rows.

A statement that the hospital signs with its own key, for a patient who asks, or who withdraws: the
studies, their rounds, and what was promised of privacy. What it is made of never left
(``trained.py``). A model that others hold can't forget; the statement says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from wardround.client.privacy.ledger import Ledger
from wardround.client.site.held_out import held_out_key
from wardround.client.site.kit import Kit
from wardround.client.site.ledger import ledger_of
from wardround.client.site.opted_out import patients_key
from wardround.client.site.policy import load_site
from wardround.client.site.studies import StudyFolders
from wardround.client.site.trained import UNKNOWN, Trained, TrainedOn
from wardround.common.durable.private import read_public, write_private
from wardround.common.errors import ProvisionError
from wardround.common.trust.identity import digest, verify

_PURPOSE = "held"
_HEAD = "held"
_FIELDS = {"format", "hospital", "patient", "made", "runs", "unknown"}
_SAYS = (
    "A run is named if the training rows of this hospital had the patient's in that round, whether "
    "or not a batch drew them. Finished models are with all who took part, and can't be made to "
    "forget: an opt-out (wardround client opt-out) keeps the rows out of every round that is still "
    "to come."
)


@dataclass(frozen=True)
class HeldRun:
    """A run that trained on the patient's rows.

    study : its id; '' in a federation that is one
    state : of the study: complete, failed, aborted, expired, or 'open'
    rounds : each [first, last]
    epsilon, unit : what this hospital spent in it for each protected unit; None without privacy
    """

    run: str
    name: str
    study: str
    state: str
    rounds: list[list[int]]
    epsilon: float | None
    unit: str


@dataclass(frozen=True)
class Held:
    """The statement.

    made : ISO 8601, UTC
    unknown : runs whose data didn't say whose the rows were
    """

    hospital: str
    patient: str
    made: str
    runs: list[HeldRun]
    unknown: list[str]

    def body(self) -> bytes:
        """The canonical JSON that is signed."""
        values = {"format": _HEAD, **asdict(self)}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    def lines(self) -> Iterator[str]:
        """For a console."""
        if not self.runs:
            yield "no run of this hospital's has trained on rows of this patient"
        for one in self.runs:
            yield f"{one.name}  run {one.run}  {one.state}"
            yield f"    {words_of(one)}"
        for run in self.unknown:
            yield f"{run}: not known, for the data didn't say whose the rows were"


def words_of(run: HeldRun) -> str:
    """Rounds and epsilon, in a line."""
    spans = [f"{a}" if a == b else f"{a} to {b}" for a, b in run.rounds]
    rounds = f"rounds {', '.join(spans)}"
    if run.epsilon is None:
        return f"{rounds}; no differential privacy"
    return f"{rounds}; epsilon {run.epsilon:.4g} for each {run.unit}"


def held(kit: Kit, patient: str, now: datetime) -> Held:
    """What this kit knows. Raises WardroundError where its lists or ledger can't be read."""
    site = load_site(kit.site_path)
    lists = Trained(kit.state, patients_key(held_out_key(site, kit.folder)))
    runs, unknown = [], []
    for run in lists.runs():
        if rounds := lists.rounds_with(run, patient):
            epsilon, unit = _spent(ledger_of(site, kit.folder), kit.name, run.run, site.max_delta)
            state = _state(kit, run)
            runs.append(HeldRun(run.run, run.name, run.study, state, rounds, epsilon, unit))
        if UNKNOWN in run.sets:
            unknown.append(run.run)
    return Held(kit.name, patient, now.isoformat(timespec="seconds"), runs, unknown)


def _state(kit: Kit, run: TrainedOn) -> str:
    folders = StudyFolders(kit.state)
    if not run.study or not folders.is_kept(run.study):
        return "open" if not run.study else "over"
    over = folders.over(run.study)
    return over.state if over is not None else "open"


def _spent(path: Path, hospital: str, run: str, delta: float) -> tuple[float | None, str]:
    if not path.exists():
        return None, ""
    with Ledger.open(path, hospital) as ledger:
        units = {one.unit for one in ledger.entries() if one.run == run}
        if not units:
            return None, ""
        unit = sorted(units)[0]
        return ledger.spent(delta, unit, run=run), unit


# --- the signed page ----------------------------------------------------------------------------
def write_held(kit: Kit, found: Held, folder: Path) -> Sequence[Path]:
    """``held.json``, which has the signature, and ``held.html`` to read, for their owner only."""
    body = found.body()
    signature = kit.identity.sign(digest(_PURPOSE, body)).hex()
    signed = {"body": body.decode(), "signature": signature, "key": kit.identity.public.hex()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProvisionError(f"{folder}: can't be made ({error.strerror})") from None
    paths = [folder / "held.json", folder / "held.html"]
    write_private(paths[0], json.dumps(signed, indent=1).encode())
    write_private(paths[1], _page(found, signature).encode())
    return paths


def check_held(kit: Kit, path: Path) -> Held:
    """A statement that this hospital has signed. Raises ProvisionError for any other."""
    try:
        signed = json.loads(read_public(path, "name a held.json"))
        body = str(signed["body"]).encode()
        values = json.loads(body)
        if set(values) != _FIELDS or values.pop("format") != _HEAD:
            raise ValueError
        signature = bytes.fromhex(signed["signature"])
        found = Held(**values | {"runs": [HeldRun(**one) for one in values["runs"]]})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProvisionError(f"{path}: is no statement of wardround client held") from None
    if not verify(kit.identity.public, signature, digest(_PURPOSE, body)):
        raise ProvisionError(f"{path}: isn't signed by this hospital, or was changed")
    return found


def _page(found: Held, signature: str) -> str:
    rows = "\n".join(
        f"<tr><td>{escape(one.name)}</td><td>{escape(one.run)}</td><td>{escape(one.state)}</td>"
        f"<td>{escape(words_of(one))}</td></tr>"
        for one in found.runs
    )
    unknown = "".join(f"<li>{escape(run)}</li>" for run in found.unknown)
    unknown = f"<p>Not known of (their data didn't say whose rows are):</p><ul>{unknown}</ul>"
    table = (
        "<table><tr><th>study</th><th>run</th><th>state</th><th>with the patient's rows</th></tr>"
        f"\n{rows}</table>"
        if found.runs
        else "<p>No run of this hospital's has trained on rows of this patient.</p>"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Models trained on a patient's rows</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
td, th {{ text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #ccc; }}
code {{ overflow-wrap: anywhere; }}</style></head><body>
<h1>Models trained on rows of patient {escape(found.patient)}</h1>
<p>{escape(found.hospital)}, {escape(found.made)}</p>
{table}
{unknown if found.unknown else ""}
<p>{escape(_SAYS)}</p>
<p>Ed25519 signature of held.json's body by this hospital's key: <code>{signature}</code></p>
</body></html>
"""
