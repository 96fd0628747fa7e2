"""``Network``: a network of hospitals, for a researcher's program or notebook.

    network = Network("kits/anna")
    study = network.submit("study.toml")
    for update in study.watch():
        print(update)
    folder = study.result()

The command line is a skin over this. What the server says of a study's state is its word; the study
itself, and every file of its results, count under signatures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wardround.client.researcher.asking import Asked, facts, make_study, read_asked
from wardround.client.researcher.showing import HEADINGS, cells, html_table, standing
from wardround.client.site.kit import MemberKit, open_kit
from wardround.common.errors import ConfigError, StudyRefused, WardroundError
from wardround.common.settings.network import end_of
from wardround.common.study import frames as f
from wardround.common.study.states import OVER, State
from wardround.common.study.study import SignedStudy, Study, Submission
from wardround.common.transport.only_tls13 import hold_to_tls13
from wardround.common.trust.lifetime import check_in_force, warning

if TYPE_CHECKING:
    from wardround.client.researcher.calls import Calls
    from wardround.client.researcher.watching import Update

KIT_VARIABLE = "WARDROUND_KIT"
_SOON = timedelta(days=30)


def kit_folder(kit: Path | str | None = None) -> Path:
    """The folder that is meant: the one named, that of the environment, or ./kit."""
    return Path(kit or os.environ.get(KIT_VARIABLE) or "kit")


class Studies(list[f.Line]):
    """Studies, newest first; a table in a notebook."""

    def _repr_html_(self) -> str:
        return html_table(HEADINGS, [cells(line) for line in self])

    def __repr__(self) -> str:
        return "\n".join("  ".join(cells(line)) for line in self) or "no studies"


class Network:
    """A network as one of its members sees it.

    kit : folder of a kit; None: WARDROUND_KIT of the environment, or ./kit

    Raises ProvisionError for a kit that can't be used; TransportError if the server can't be
    reached. The kit's signed description is brought up to date.
    """

    def __init__(self, kit: Path | str | None = None) -> None:
        self._kit = open_kit(kit_folder(kit))
        held = _held()  # before anything imports gRPC
        from wardround.client.researcher.calls import Calls

        self.calls: Calls = Calls(self._kit, held)
        self._refresh()

    @property
    def kit(self) -> MemberKit:
        """The member's, with the newest description that came."""
        return self._kit

    @property
    def warning(self) -> str:
        """A line if the signed description or the kit's certificate ends soon; '' if all is
        well."""
        now, info = datetime.now(UTC), self._kit.info
        if info.not_after - now < _SOON:
            return (
                f"the certificate of {info} expires on {info.not_after:%Y-%m-%d}; the coordinator "
                f"renews it: wardround provision FILE --renew {info.name}"
            )
        return warning(self._kit.description, now)

    def prepare(self, asked: Asked, overrides: Sequence[str] = ()) -> Study:
        """The study that a file, tables or a Config ask for; nothing is sent.

        Raises ConfigError or StudyRefused, naming the key, for what can't be asked.
        """
        self._check_may_ask()
        config = read_asked(asked, overrides)
        return make_study(config, self._kit.description, self._kit.name, datetime.now(UTC))

    def facts(self, study: Study) -> list[tuple[str, str]]:
        """What a study asks, for people: (what, how it is)."""
        return facts(study, self._kit.description)

    def submit(self, asked: Asked | Study, overrides: Sequence[str] = ()) -> StudyHandle:
        """Sign a study and submit it. The same again is the same study: ``handle.new`` says so.

        Raises ConfigError, StudyRefused (both name the key), DescriptionExpired, TransportError.
        """
        study = asked if isinstance(asked, Study) else self.prepare(asked, overrides)
        submission = self._sign(study)
        call = f.Submit(study=study.body().decode(), signature=submission.signature.hex())
        return self._submitted(study, self.calls.ask(call, f.Submitted))

    def study(self, which: str) -> StudyHandle:
        """A study by its name, or by how its id begins. Raises StudyUnknown."""
        return StudyHandle(self, self.calls.ask(_show(which), f.Shown).line)

    def studies(self, *states: State, most: int = 100) -> Studies:
        """The newest studies that this member may see, in these states or in all."""
        answer = self.calls.ask(f.List(states=states, most=most), f.Listed)
        return Studies(answer.studies)

    def close(self) -> None:
        """End the connection."""
        self.calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        one = self._kit.description
        return f"Network({one.federation!r} at {one.address}, as {self._kit.info})"

    def _repr_html_(self) -> str:
        one = self._kit.description
        rows = [
            ("network", one.federation),
            ("server", one.address),
            ("you", str(self._kit.info)),
            ("hospitals", ", ".join(one.hospitals)),
        ]
        return html_table((), rows)

    # --- inside -------------------------------------------------------------------------------
    def _refresh(self) -> None:
        one = self._kit.description
        call = f.Describe(version=one.version, issued=one.issued)
        if text := self.calls.ask(call, f.Described).description:
            self._kit = self._kit.update_description(text.encode())
            self.calls.kit = self._kit

    def _check_may_ask(self) -> None:
        if self._kit.role != "researcher":
            raise StudyRefused(
                f"{self._kit.folder} is the kit of {self._kit.info}",
                mend="a researcher's signs studies",
            )

    def _sign(self, study: Study) -> Submission:
        self._check_may_ask()
        check_in_force(self._kit.description, datetime.now(UTC))
        study.check(self._kit.description, datetime.now(UTC))
        return study.signed(self._kit.identity)

    def _submitted(self, study: Study, answer: f.Submitted) -> StudyHandle:
        if answer.line.id != study.id:
            raise StudyRefused("the server answered for another study than was submitted")
        handle = StudyHandle(self, answer.line, answer.new)
        if handle.signed().study != study:
            raise StudyRefused("the server keeps another study than was submitted")
        return handle


class StudyHandle:
    """A study of a network.

    line : where it stood when the server was last asked
    new : False for one that was there already when it was submitted
    """

    def __init__(self, network: Network, line: f.Line, new: bool = False) -> None:
        self._network, self.line, self.new = network, line, new

    @property
    def id(self) -> str:
        """Its digest, hexadecimal."""
        return self.line.id

    @property
    def name(self) -> str:
        """What its researcher calls it."""
        return self.line.name

    @property
    def state(self) -> State:
        """Where it stands now."""
        return self.refresh().line.state

    def refresh(self) -> Self:
        """Ask where it stands."""
        self.line = self._shown().line
        return self

    def signed(self) -> SignedStudy:
        """What was asked, under the signatures of researcher and server, checked.

        Raises StudyRefused if it isn't what it says.
        """
        signed = SignedStudy.read(self._shown().signed.encode(), self._network.kit.description)
        if signed.study.id != self.id:
            raise StudyRefused("the server shows another study than it names")
        return signed

    def decisions(self) -> list[f.Decision]:
        """What each hospital has said; a hospital is told its own word only."""
        return list(self._shown().decisions)

    def watch(self, after: int = 0) -> Iterator[Update]:
        """What happens to it, as it happens, until it is over; a server that is away is waited
        for. ``after``: a number of ``Update.event``, to go on from there."""
        from wardround.client.researcher.watching import watch

        for update in watch(self._network.calls, self.line, after):
            self.line = update.line
            yield update

    def wait(self) -> State:
        """The state in which it ends."""
        if self.refresh().line.state not in OVER:
            for _ in self.watch():
                pass
        return self.line.state

    def abort(self, reason: str) -> Self:
        """End it: hospitals are told, and nothing more is asked of them. Raises StudyRefused if it
        is over already."""
        self.line = self._network.calls.ask(f.Abort(study=self.id, reason=reason), f.Changed).line
        return self

    def rerun(self, ends: str = "") -> StudyHandle:
        """Ask the very same once more, when it is over; ``ends``: another date, if that has passed.

        The settings are those that this researcher has signed; a changed file is another study.
        """
        old = self.signed().study
        kit = self._network.kit
        if old.researcher != kit.name:
            raise StudyRefused(f"'{self.name}' is {old.researcher}'s, who can repeat it")
        try:
            until = end_of(ends).isoformat(timespec="seconds") if ends else old.ends
        except ValueError:
            raise ConfigError(f"ends: {ends!r:.40} is no date, such as 2027-03-01") from None
        study = old.model_copy(update={"repeat": old.repeat + 1, "ends": until})
        submission = self._network._sign(study)
        call = f.Rerun(
            study=study.body().decode(), signature=submission.signature.hex(), of=self.id
        )
        answer = self._network.calls.ask(call, f.Submitted)
        return self._network._submitted(study, answer)

    def result(
        self,
        folder: Path | str | None = None,
        *,
        wait: bool = True,
        progress: Callable[[str, int, int], object] = lambda name, here, size: None,
    ) -> Path:
        """The folder with its model, report and figures, each file held against what the server
        signed.

        Parameters
        ----------
        folder : to be made; default: results/<name>-<id's beginning>
        wait : first wait until the study is over

        Raises StudyRefused, with the reason, if it ended without results.
        """
        from wardround.client.researcher.fetching import fetch

        state = self.wait() if wait else self.refresh().line.state
        if state != "complete":
            raise StudyRefused(f"'{self.name}' has no results: {standing(self.line)}")
        study = self.signed().study
        target = Path(folder) if folder is not None else Path("results") / study.run
        return fetch(self._network.calls, study, target, progress)

    def __repr__(self) -> str:
        return f"<study {self.name} ({self.id[:12]}): {standing(self.line)}>"

    def _repr_html_(self) -> str:
        return html_table(HEADINGS, [cells(self.line)])

    def _shown(self) -> f.Shown:
        shown = self._network.calls.ask(_show(self.id), f.Shown)
        if shown.line.id != self.id:
            raise StudyRefused("the server answered for another study than was asked")
        return shown


def _show(which: str) -> f.Show:
    try:
        return f.Show(study=which)
    except ValueError:
        raise StudyRefused(f"{which[:80]!r} is no name and no id of a study") from None


def _held() -> bool:
    try:
        hold_to_tls13()
    except WardroundError:  # gRPC was there before: ``tls.channel_credentials`` says why that does
        return False
    return True
