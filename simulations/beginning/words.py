"""What names of columns and texts of cells mean, as short written lists. What isn't in one is asked
for, or told as a guess."""

from __future__ import annotations

from wardround.common.tasks.data.profile.words import name_words
from wardround.common.text import code


def _texts(text: str) -> frozenset[str]:
    return frozenset(code(one.strip()).casefold() for one in text.split(",") if one.strip())


YES = _texts(
    "1, true, t, yes, y, ja, j, oui, si, sí, sì, wahr, vrai, positive, positiv, pos, present"
)
NO = _texts("0, false, f, no, n, nein, non, falsch, faux, negative, negativ, neg, absent")
"""Of a question with two answers."""
HAPPENED = _texts(
    "died, dead, death, deceased, expired, exitus, verstorben, gestorben, tot, tod, décédé, "
    "decede, mort, muerto, fallecido, deceduto, malignant, maligne, bösartig, maligno, case, "
    "event, diseased, sick, krank, abnormal, readmitted, relapse, relapsed, recurrence, "
    "progression, progressed"
)
DID_NOT = _texts(
    "alive, living, survived, survivor, lebt, lebend, überlebt, ueberlebt, vivant, vivo, benign, "
    "benigne, gutartig, benigno, control, censored, no event, healthy, gesund, normal, recovered, "
    "not readmitted, no relapse, no recurrence, no progression"
)
"""Of an outcome."""
SEXES = {
    "female": _texts("f, female, w, weiblich, frau, femme, féminin, woman, mujer, femmina"),
    "male": _texts("m, male, männlich, maennlich, mann, homme, masculin, man, hombre, maschio"),
}
_OTHER_SEXES = _texts("d, divers, diverse, x, other, o, u, i, intersex, andere")

_PLAIN_TARGETS = frozenset("target label outcome class y response endpoint zielvariable".split())
_TARGETS = frozenset(
    "died dead death deceased mortality event diagnosis disease readmitted readmission "
    "malignant survived relapse recurrence verstorben tod mortalität mortalitaet diagnose outcome "
    "target label class".split()
)
_STATUS_OF = frozenset("vital survival os patient discharge".split())
"""Words with which *status* is an outcome's; a status of smoking, marriage or insurance is none."""
_TIMES = frozenset(
    "time futime fustat_time survival_time survivaltime survtime os_time ostime os_days os_months "
    "time_to_event timetoevent tte followup followup_time follow_up follow_up_time follow_up_days "
    "followup_days duration time_days days_to_event t_event days weeks months".split()
)
_EVENTS = frozenset(
    "event status fustat censored censoring cens death dead died death_event os_event os_status "
    "vital_status event_observed".split()
)
_SPLITS = frozenset("split set fold subset partition".split())
_CODES = frozenset(
    "ward station code type typ abteilung department diagnosis diagnose icd drg race ethnicity "
    "region country land category kategorie group gruppe class klasse".split()
)
_CLASSES = frozenset("class grade stage type diagnosis species category group".split())


def yes_or_no(texts: frozenset[str], outcome: bool = False) -> bool:
    """Whether all these texts (casefolded codes) are words for yes and no, with some of each.

    outcome : words of outcomes count too (died, alive)
    """
    yes, no = (YES | HAPPENED, NO | DID_NOT) if outcome else (YES, NO)
    return texts <= yes | no and bool(texts & yes) and bool(texts & no)


def means_yes(text: str) -> bool:
    """Whether a text (a casefolded code) is a word for 1."""
    return text in YES or text in HAPPENED


def is_outcome(text: str) -> bool:
    """Whether a text (a casefolded code) is a word for yes, no, or how something went."""
    return text in YES | NO | HAPPENED | DID_NOT


def sex_of(text: str) -> str | None:
    """'female' or 'male' for a text (a casefolded code) that means it."""
    return next((name for name, texts in SEXES.items() if text in texts), None)


def are_sexes(texts: frozenset[str]) -> bool:
    """Whether these texts are those of a column of sexes."""
    known = frozenset().union(*SEXES.values())
    return bool(texts & known) and texts <= known | _OTHER_SEXES


def target_rank(name: str) -> int:
    """2 for a name that says target, label or outcome; 1 for one that says a usual outcome; 0."""
    words = name_words(name)
    if "_".join(words) in _PLAIN_TARGETS:
        return 2
    status = "status" in words and _STATUS_OF.issuperset(set(words) - {"status"})
    return int(status or not _TARGETS.isdisjoint(words))


def says_time(name: str) -> bool:
    """Whether the name is that of a time to an event."""
    words = name_words(name)
    return "_".join(words) in _TIMES or "".join(words) in _TIMES


def says_event(name: str) -> bool:
    """Whether the name is that of an event that a time goes with."""
    return "_".join(name_words(name)) in _EVENTS


def says_censored(name: str) -> bool:
    """Whether the name says that the event was *not* seen."""
    return any(word.startswith("cens") for word in name_words(name))


def says_split(name: str) -> bool:
    """Whether the name is that of a split."""
    return "_".join(name_words(name)) in _SPLITS


def says_code(name: str) -> bool:
    """Whether whole numbers of a column of this name are codes of categories, and no amounts."""
    return not _CODES.isdisjoint(name_words(name))


def says_classes(name: str) -> bool:
    """Whether whole numbers of a column of this name are classes."""
    return not _CLASSES.isdisjoint(name_words(name))
