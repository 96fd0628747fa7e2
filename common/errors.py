"""Every error that a user of Wardround can meet, in one tree.

WardroundError             one line for people: the thing, the place, the mend
├── ConfigError            federation.toml or an override is wrong
├── DataError              a hospital's data is missing, unreadable or unfit
│   └── Unreadable         one item of it is; a hospital may let a share of them be left out
├── TaskError              a task (built in or the user's own) broke its contract
├── StrategyError          a strategy is unknown, or not allowed in this run
├── RequestRefused         a hospital was asked something that it can't answer as it was asked
├── ReplyRefused           one client's reply was not accepted (the round may go on)
│   ├── BudgetSpent        a hospital's privacy budget forbids it to take part
│   ├── HospitalStopped    a hospital failed too often, and a person there must look
│   ├── EvaluatesLater     a hospital evaluates in the last round only
│   └── ProtocolRefused    a message of secure aggregation was not accepted, by either side
│       └── SharesGiven    a hospital has given shares for another sum of the same
├── RoundFailed            too few clients answered, after every retry
│   └── NobodyContributed  too few had anything to add to a sum that was opened
├── CheckpointError        a checkpoint is missing, torn or of another run
├── RunDirectoryError      a run directory can't be made or read
├── PrivacyRefused         the privacy budget, or its ledger, forbids what was asked
├── ProvisionError         keys, certificates, start-up kits: missing, damaged, of another, expired
│   └── DescriptionExpired    the signed description has ended, or isn't valid yet by the clock
├── PolicyRefused          a hospital's own site.toml forbids what was asked
│   ├── PlanRefused           what is asked isn't what was signed, or accepted
│   ├── PlanRejected          a person there has rejected the plan
│   ├── WaitsForApproval      a person there hasn't decided on the plan yet
│   ├── RulesEdited           its own files were edited since it accepted the plan
│   ├── StoppedAfterFailures  it failed too often, and nobody there has looked
│   └── NotEvaluating         it has no part in this round's evaluation
├── TransportError         a connection or a message on it was not accepted, or can't be had
├── StudyRefused           a study can't be asked, or isn't what it says it is
│   ├── StudyUnknown          there is none of this name or id, or none that concerns who asks
│   ├── Overtaken             another has changed it, or leads, since this was decided
│   └── StudyIsOver           it has ended, or its end date has passed
├── DatabaseAway           the database of studies gives no answer now; the same again may succeed
├── ResultsRefused         results aren't those that the server signed, or can't be taken here
├── AuditError             an audit log doesn't verify, or can't be written
└── Interrupted            a person or the system stopped it; the message says how to go on

The command line prints ``str(error)`` and exits with ``exit_code``; it never shows a traceback for
one of these. No message carries a patient-level value: a cell is named by file, line and column.

An error has its parts as fields, so that console, log, report and exception say the same:

    WardroundError("no column 'age'", who="north (north.csv)", mend="add it, or leave it out")

reads "north (north.csv): no column 'age'; add it, or leave it out". An error of one text is all
``what``.

A hospital's own words stay there: its files, columns, counts and categories are nobody else's.
What leaves it of an error is ``told``, which is written of what was asked alone; where there is
none, the fixed sentence of its kind. Only of kinds whose texts are made of the request, the plan
and the protocol throughout (``tells``) the text itself leaves: ``outside_words``.
"""

from __future__ import annotations

import traceback
from typing import Self


class WardroundError(Exception):
    """Base of the tree. ``exit_code`` is what the command line exits with.

    lasting : of a kind: the same again ends the same until a person mends it, so that no service
        manager should try
    who : whose fault it is: a hospital, and its file where one is at fault; '' where nobody's
    what : what is wrong, and where
    mend : what to do about it; '' where ``what`` says it or nothing helps
    told : what may leave a hospital of it: made of what was asked, and of nothing that is the
        hospital's own; '' where its kind says that
    tells : of a kind: no text of it holds anything of a hospital's own, so it leaves as it is
    outside : of a kind that doesn't tell: what leaves instead
    """

    exit_code = 1
    lasting = True
    tells = False
    outside = "it can't answer; that hospital's own log says why"

    def __init__(self, what: str = "", *, who: str = "", mend: str = "", told: str = "") -> None:
        super().__init__(what)
        self.what, self.who, self.mend, self.told = what, who, mend, told

    def __str__(self) -> str:
        who = f"{self.who}: " if self.who else ""
        return f"{who}{self.what}{f'; {self.mend}' if self.mend else ''}"

    def by(self, who: str) -> Self:
        """The same error as ``who``'s, unless it already says whose it is; its cause is kept."""
        if not self.who:
            self.who = who
        return self


class ConfigError(WardroundError):
    """The configuration is wrong: the message names file, line, key and what is allowed."""

    exit_code = 2


class DataError(WardroundError):
    """A hospital's data is wrong: the message names file, line, column, never the cell's text."""

    exit_code = 3
    outside = "its data don't fit the study; that hospital's own log says where and why"


class Unreadable(DataError):
    """One file, image or row can't be read, whatever is asked of it; others may be."""


class TaskError(WardroundError):
    """A task can't be loaded or broke its contract."""

    exit_code = 4
    outside = "its task can't be computed there; that hospital's own log says why"


class StrategyError(WardroundError):
    """A strategy is unknown, misconfigured, or needs what this run doesn't give it."""

    exit_code = 5


class RequestRefused(WardroundError):
    """What the server asks isn't a request of the protocol, or doesn't fit this hospital."""

    tells = True


class ReplyRefused(WardroundError):
    """One reply was refused; ``str(error)`` is the reason."""

    tells = True


class ProtocolRefused(ReplyRefused):
    """A message of secure aggregation is malformed, out of turn, or asks for too much."""


class JointRefused(WardroundError):
    """A joint procedure ends at a party: what it got, or has, doesn't allow another step. The words
    are fixed, and all parties are told them."""

    tells = True


class SharesGiven(ProtocolRefused):
    """A hospital has given shares for another sum of what it is asked for again."""


class BudgetSpent(ReplyRefused):
    """A hospital refused because its privacy budget, or its ledger, forbids the round."""


class HospitalStopped(ReplyRefused):
    """A hospital refused because it failed too often, and nobody there has looked."""


class EvaluatesLater(ReplyRefused):
    """A hospital refused to evaluate before the plan's last round."""


class RoundFailed(WardroundError):
    """A round could not be completed; the last checkpoint is intact."""

    exit_code = 6
    lasting = False


class NobodyContributed(RoundFailed):
    """A sum was opened to which too few hospitals could add anything. It isn't asked for again:
    each answers one sum, and the same model fails on the same rows. So a run can't go on from it,
    and what it ends with is the code of data that are wrong."""

    exit_code = 3
    lasting = True


class PartlyFailed(RoundFailed):
    """Some hospitals had nothing to add to a sum, which so tells nothing but their number.

    failed : of them
    """

    def __init__(self, what: str, failed: int, mend: str = "") -> None:
        super().__init__(what, mend=mend)
        self.failed = failed


class CheckpointError(WardroundError):
    """A checkpoint can't be used; the message says which and why."""

    exit_code = 7


class RunDirectoryError(WardroundError):
    """A run directory can't be made, or isn't one."""

    exit_code = 8


class PrivacyRefused(WardroundError):
    """What was asked would pass a hospital's privacy limit, or its ledger can't vouch for it."""

    exit_code = 9
    outside = "its privacy budget, or its ledger, forbids it; that hospital's own log says why"


class ProvisionError(WardroundError):
    """A key, certificate, signing request, signed description or start-up kit can't be used."""

    exit_code = 10


class DescriptionExpired(ProvisionError):
    """The federation's signed description isn't in force by this machine's clock."""

    tells = True


class PolicyRefused(WardroundError):
    """A hospital's own policy forbids it; the message names the key of ``site.toml``."""

    exit_code = 11
    outside = "its own rules forbid it; that hospital's own log says which"


class PlanRefused(PolicyRefused):
    """A plan or request isn't one of what was signed, or of what the hospital has accepted."""

    tells = True


class PlanRejected(PolicyRefused):
    """A person at the hospital has rejected the run's plan: with a reason that is for all."""

    tells = True


class WaitsForApproval(PolicyRefused):
    """A person at the hospital hasn't decided on the run's plan yet."""

    tells = True


class RulesEdited(PolicyRefused):
    """The hospital's own files aren't those any more that it accepted the plan under."""

    outside = (
        "its own files have changed since it accepted the plan, which is to be shown to it again"
    )


class StoppedAfterFailures(PolicyRefused):
    """The hospital takes no part any more, as it failed too often, until a person there looks."""

    tells = True


class NotEvaluating(PolicyRefused):
    """The hospital's own policy keeps it out of this round's evaluation."""


class TransportError(WardroundError):
    """A connection or a message on it was refused, or can't be had; the message says why."""

    exit_code = 12


class AuditError(WardroundError):
    """An audit log was altered, is another's, or can't be written."""

    exit_code = 13


class StudyRefused(WardroundError):
    """A study can't be asked of this network, isn't there, or isn't what it says it is."""

    exit_code = 14
    tells = True


class StudyUnknown(StudyRefused):
    """The network has no such study, or none that concerns whoever asks."""


class Overtaken(StudyRefused):
    """A change came too late: the study isn't any more what it was decided for, or another server
    leads. Nothing was written."""

    lasting = False


class Deposed(Overtaken):
    """Another server leads by now: the same, asked of that one, is done."""


class DatabaseAway(WardroundError):
    """The database of studies gives no answer now. Whether the last change was made may be
    unknown; the same again is made once."""

    exit_code = 16
    lasting = False


class ResultsRefused(WardroundError):
    """Results of a study aren't those that the server signed, or can't be made or taken here."""

    exit_code = 15
    outside = "it doesn't take these results; that hospital's own log says why"


class ModelRefused(WardroundError):
    """A model folder was altered, isn't signed by whom it must be, is past its last day, or can't
    be used here; or an export isn't the model that it was made of."""

    exit_code = 17


class CalibrationRefused(WardroundError):
    """A calibration was altered, is of another model or of a stranger, or can't be made here."""

    exit_code = 18


class StudyIsOver(StudyRefused):
    """Nothing is done for the study any more: its end date has passed, or it has ended."""


class Interrupted(WardroundError):
    """Stopped from outside. The exit code is the one that shells give after Ctrl-C."""

    exit_code = 130
    lasting = False


def outside_words(error: Exception) -> str:
    """What of an error may leave a hospital: nothing that is its own.

    >>> outside_words(DataError("north.csv: line 3: column 'weight' has no number"))
    "its data don't fit the study; that hospital's own log says where and why"
    >>> outside_words(DataError("north.csv: it has 'weight'", told="there is no column 'age'"))
    "there is no column 'age'"
    """
    if not isinstance(error, WardroundError):
        return f"{type(error).__name__}; that hospital's own log says where"
    if error.told:
        return error.told
    return reason_of(error) if error.tells else error.outside


def reason_of(error: Exception) -> str:
    """What a hospital's own log says of an error, and a simulation: its text if it is ours, else
    where it happened, as its text might quote a cell. Not whose it is: whoever asked knows whom.

    >>> reason_of(DataError("no column 'age'", who="north", mend="add it"))
    "no column 'age'; add it"
    """
    if isinstance(error, WardroundError):
        return f"{error.what}{f'; {error.mend}' if error.mend else ''}"
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {where[0].filename.rpartition('/')[2]}:{where[0].lineno}" if where else ""
    return f"{type(error).__name__}{place}"
