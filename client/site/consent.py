"""``wardround client approve|reject``: plans are shown, and decisions made and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from wardround.client.site.approval import Decision
from wardround.client.site.joint_text import of_this_kit
from wardround.client.site.kit import Kit
from wardround.client.site.plan_text import plan_text
from wardround.client.site.policy import load_site
from wardround.client.site.questions import Questions, sentence
from wardround.client.site.standing import Desk, desks, is_decided, what_stands
from wardround.client.site.stop import LOCK
from wardround.client.site.study_text import (
    Shown,
    asked_of_analyses,
    asked_of_groups,
    asked_of_joint,
    asked_of_records,
    asked_of_teacher,
    chosen_otherwise,
    differs_by,
    few_between,
    judged_otherwise,
    study_text,
    what_is_new,
)
from wardround.client.sources.kept import Located
from wardround.client.sources.readers import shown
from wardround.client.sources.source import Asked
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.durable.lock import lock_holder
from wardround.common.errors import AuditError, PolicyRefused, TransportError, WardroundError
from wardround.common.manifest.manifest import Manifest
from wardround.common.settings import StatisticsOptions
from wardround.common.study.study import Study

_NOT_SHOWN = (
    "nothing was decided: a plan can be decided on once the running client (wardround client KIT) "
    "was shown it, mostly within seconds of its submission; try again then"
)


def decide(
    folder: Path,
    yes: bool,
    reject: str | None,
    plan: str | None,
    say: Callable[[str], None],
    confirm: Callable[[str], bool],
    study: str = "",
) -> None:
    """Show what waits and ask, approve, or reject.

    yes : approve what waits, of one study, else what was rejected last
    reject : a reason; reject what waits, and what the hospital takes part in
    plan : the beginning of a digest: this one only
    study : how the name or id of one begins: this one's only

    Raises PolicyRefused where a decision was given, nothing waits for it, and it wasn't the last
    one either: who gave it must not believe that it counts.
    """
    kit = Kit.open(folder)
    every = desks(kit, study)
    chosen = _chosen(every, yes, reject is not None, plan, bool(study))
    if not chosen:
        nothing = f"{folder}: no plan waits for approval{what_stands(kit, every, bool(study))}"
        if (yes or reject is not None) and not any(is_decided(one, yes) for one in every):
            raise PolicyRefused(nothing, mend=_NOT_SHOWN)
        say(nothing)
    for desk, manifest in chosen:
        _show(kit, desk, manifest, say)
        name = manifest.digest().hex()
        if reject is not None:
            desk.approvals.reject(name, reject)
            say(f"rejected: of run '{manifest.run}' nothing more leaves")
        elif yes or confirm("Approve this plan?"):
            desk.approvals.approve(name)
            say("approved: the running client takes part within seconds")
        else:
            say("nothing decided: the plan waits; to refuse it, say why with --reject REASON")
    _note(kit, every)


def _show(kit: Kit, desk: Desk, manifest: Manifest, say: Callable[[str], None]) -> None:
    """The study, its plan, and what is new since a person here last said yes."""
    now = _shown(kit, desk.study, manifest)
    if now.study is not None and now.config is not None:
        say(study_text(now.study, now.config, _where_data(kit, now.study)))
    elif now.study is None and (cohort := kit.description.config().cohort) is not None:
        say(asked_of_records(cohort))
    if now.study is None and (judged := kit.description.config().judgement) is not None:
        say(asked_of_groups(judged))
    if now.study is None and (teacher := kit.description.config().teacher) is not None:
        say(asked_of_teacher(teacher))
    if now.study is None and isinstance(
        options := kit.description.config().procedure.settings, StatisticsOptions
    ):
        say(asked_of_analyses(options))
    if now.study is None and kit.description.config().procedure.joint:
        say(asked_of_joint(kit.description.config()))
    for text in asked_of_sources(kit, now.study, now.config):
        say(text)
    say(plan_text(manifest))
    asking = now.config if now.config is not None else kit.description.config()
    if line := sentence(Questions(kit.state), asking):
        say(line)
    name = now.study.name if now.study is not None else kit.description.federation
    for line in of_this_kit(asking, kit.state, kit.name, name):
        say(line)
    for line in _together(kit, now):
        say(line)
    before = _last_approved(kit, manifest)
    if before is None:
        return
    decision, then = before
    what = f"the plan of run '{decision.manifest.run}', approved at {decision.time}"
    lines = what_is_new(now, then)
    if not lines:
        say(f"Nothing else than in {what}.\n")
        return
    say(f"New since {what}:")
    for line in lines:
        say(f"  {line}")


def asked_of_sources(kit: Kit, study: Study | None, config: Config | None) -> Iterator[str]:
    """What the question becomes where this hospital's data are, such as SQL.

    study, config : None in a federation that is one study
    """
    try:
        site = load_site(kit.site_path)
        if study is None:
            config = kit.description.config()
            found: list[Located | None] = [site.located(name) for name in site.data]
        else:
            found = [site.for_study(study.name).mapped]
    except WardroundError:
        return  # it is said where the data are
    for one in found:
        if one is not None and one.source is not None and config is not None:
            yield from shown(one.source, Asked(config, one.base, one.name, lambda line: None))


def _where_data(kit: Kit, study: Study) -> str:
    """What a study would be computed on, by the rules as they are now."""
    try:
        data = load_site(kit.site_path).for_study(study.name).mapped
    except WardroundError as error:
        return f"unknown: {error}"
    return data.words if data is not None else "what the client was started with (--data)"


def _shown(kit: Kit, study: Study | None, manifest: Manifest) -> Shown:
    try:
        config = study.config(kit.description) if study is not None else None
    except WardroundError:  # it was shown under a description of before
        config = None
    return Shown(manifest, study, config)


def _together(kit: Kit, now: Shown) -> Iterator[str]:
    """What sums of this study would tell beside those of others that were approved here."""
    of_records = now.config is not None and now.config.cohort is not None
    judged = now.config is not None and now.config.judgement is not None
    for desk in desks(kit):
        if desk.study is None or not (of_records or judged or few_between(now, desk.study)):
            continue  # most have the same hospitals: their settings needn't be read
        if now.study is not None and desk.study.id == now.study.id:
            continue
        for one in desk.approvals.decisions("approved"):
            before = _shown(kit, desk.study, one.manifest)
            beware = f"Beware: the plan of run '{one.manifest.run}', approved at {one.time}, asks "
            if few := differs_by(now, before):
                yield (
                    f"{beware}about some of the same columns, of the same hospitals but for "
                    f"{', '.join(few)}: its sums and this study's, one less the other, are theirs "
                    "alone.\n"
                )
                break
            if chosen_otherwise(now, before):
                yield (
                    f"{beware}about some of the same records, of patients chosen otherwise: its "
                    "sums and this study's, one less the other, are about those whom only one of "
                    "them has.\n"
                )
                break
            if columns := judged_otherwise(now, before):
                yield (
                    f"{beware}for figures by groups of {', '.join(columns)} that are cut otherwise "
                    "(or from another threshold on): its tables and this study's, one less the "
                    "other, are about those between, be it one patient.\n"
                )
                break


def _last_approved(kit: Kit, manifest: Manifest) -> tuple[Decision, Shown] | None:
    """The last plan that a person approved: of the same study, else of one of the same name, else
    of any."""
    name, found = _name_of(manifest), list[tuple[tuple[bool, bool, str], Decision, Study | None]]()
    for desk in desks(kit):
        for one in desk.approvals.decisions("approved"):
            if one.manifest.digest() != manifest.digest():
                same = one.manifest.study == manifest.study
                order = (same, _name_of(one.manifest) == name, one.time)
                found.append((order, one, desk.study))
    if not found:
        return None
    _, decision, study = max(found, key=lambda one: one[0])
    return decision, _shown(kit, study, decision.manifest)


def _name_of(manifest: Manifest) -> str:
    """The study's name, which its run's begins with."""
    return manifest.run.rpartition("-")[0] if manifest.study else ""


def _chosen(
    every: list[Desk], yes: bool, rejecting: bool, plan: str | None, named: bool
) -> list[tuple[Desk, Manifest]]:
    """The plans to decide on, with where they lie.

    named : one study is meant
    """
    if plan is not None:
        return _find(every, plan)
    open_ = [one for one in every if not one.over]
    waiting = [(desk, one) for desk in open_ for one in desk.approvals.pending()]
    if rejecting:
        for desk in open_:
            taken = [one for one in desk.approvals.in_force() if (desk, one) not in waiting]
            waiting += [(desk, one) for one in taken]
            if named and not waiting:  # approved, and the client wasn't shown it since
                said = list(desk.approvals.decisions("approved"))
                waiting = [(desk, one.manifest) for one in said[-1:]]
        return waiting
    if yes and not named and len(names := {desk.name for desk, _ in waiting}) > 1:
        raise PolicyRefused(
            f"--yes: plans of {len(names)} studies wait; name the one that is meant: "
            f"{', '.join(sorted(names))}"
        )
    if waiting or not yes or (len(every) > 1 and not named):
        return waiting
    last = [(desk, one) for desk in open_ if (one := desk.approvals.last_rejected()) is not None]
    return [(desk, one.manifest) for desk, one in last]


def _find(every: list[Desk], plan: str) -> list[tuple[Desk, Manifest]]:
    """The plan whose digest begins so. Raises PolicyRefused unless there is just one."""
    found, said = list[tuple[Desk, Manifest]](), PolicyRefused("no plan waits here")
    for desk in every:
        try:
            found.append((desk, desk.approvals.find(plan)))
        except PolicyRefused as error:
            said = error
    if len(found) > 1:
        raise PolicyRefused(f"plans of {len(found)} studies begin with {plan}")
    if not found:
        raise said
    return found


def _note(kit: Kit, every: list[Desk]) -> None:
    """The audit log is written by the running client, or else here."""
    waiting = [one.approvals.log for one in every if one.approvals.log.waiting()]
    if not waiting:
        return
    try:
        if lock_holder(kit.state / LOCK) is not None:
            return
    except TransportError:
        return  # who can't see whether it runs doesn't write its log
    try:
        path = kit.state / "audit.jsonl"
        with AuditLog.open(path, kit.name, kit.identity) as audit:
            for log in waiting:
                log.note(audit)
    except AuditError as error:
        raise AuditError(f"decided, and not yet in the audit log: {error}") from None
