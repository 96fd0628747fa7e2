"""The hospital's last word: policy, approval and gate, as its process asks for them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from tests.clinical import COHORT
from tests.provisioning import Site, federation
from tests.stage_two import stage_two
from wardround.client.privacy.ledger import Entry, Ledger, Limit
from wardround.client.site.approval import Approvals
from wardround.client.site.consent import decide
from wardround.client.site.failures import resume
from wardround.client.site.kit import Kit
from wardround.client.site.last_word import LastWord
from wardround.client.site.terms import Data, Terms, resolve_device
from wardround.client.sources.kept import SourceFailed
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.durable.lock import take_lock
from wardround.common.errors import (
    ConfigError,
    DescriptionExpired,
    NotEvaluating,
    PolicyRefused,
    PrivacyRefused,
    StoppedAfterFailures,
    WaitsForApproval,
)
from wardround.common.flower.arrays import ArraySpec
from wardround.common.privacy.accounting import Release
from wardround.common.protocol import names as m
from wardround.common.trust.identity import Identity
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder
from wardround.server.reception.manifest import preparation_manifest

THREE = ("north", "south", "east")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    config = federation(tmp_path / "coordinator", hospitals=THREE)
    made = provision.provision(config, now=now_utc())
    return Site(config, made.kits[0], None)  # type: ignore[arg-type]


def rules_of(site: Site, policy: str = "") -> LastWord:
    kit = Kit.open(site.kit)
    kit.site_path.write_text(policy)
    return LastWord(kit, AuditLog.open(kit.state / "audit.jsonl", kit.name, kit.identity), None)


def plan(site: Site, signer: Identity | None = None, run: str = "run-1") -> RecordDict:
    server = load_server_folder(site.config)
    task = make_task(site.config)
    manifest = preparation_manifest(site.config, task, server.description, run)
    signed = manifest.signed(signer or server.identity)
    return RecordDict({"manifest": ConfigRecord({m.MESSAGE: signed})})


def events(site: Site) -> list[dict]:
    return events_of(site.kit)


def events_of(kit: Path) -> list[dict]:
    lines = (kit / "state" / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_an_accepted_plan_opens_the_gate_and_is_written_down(site: Site) -> None:
    rules = rules_of(site)
    with pytest.raises(PolicyRefused, match="no run manifest was accepted"):
        rules.may_begin(m.DESCRIBE, None)
    rules.admit(plan(site))
    rules.may_begin(m.DESCRIBE, None)
    with pytest.raises(PolicyRefused, match="doesn't name the model's arrays"):
        rules.may_begin(m.TRAIN, None)
    accepted = events(site)[-1]
    assert (accepted["event"], accepted["run"], accepted["stage"]) == ("manifest", "run-1", 1)


def test_a_plan_that_the_server_did_not_sign_is_refused(site: Site) -> None:
    with pytest.raises(Exception, match="sign"):
        rules_of(site).admit(plan(site, Identity.generate()))


def test_the_policy_refuses_by_key_and_is_written_down_once(site: Site) -> None:
    rules = rules_of(site, "max_rounds = 5\n")
    for _ in range(3):  # the server asks again and again
        with pytest.raises(PolicyRefused, match=r"site.toml:1: max_rounds: .* 5 rounds.* plans 20"):
            rules.admit(plan(site))
    assert [line["event"] for line in events(site)].count("policy") == 1
    with pytest.raises(PolicyRefused, match="no run manifest"):
        rules.may_begin(m.DESCRIBE, None)


def test_an_edited_policy_counts_without_a_restart(site: Site) -> None:
    rules = rules_of(site, "max_rounds = 5\n")
    with pytest.raises(PolicyRefused):
        rules.admit(plan(site))
    (site.kit / "site.toml").write_text("max_rounds = 20\n")
    rules.admit(plan(site))
    rules.may_begin(m.DESCRIBE, None)


def test_a_plan_waits_until_a_person_approves_it(site: Site) -> None:
    rules = rules_of(site, 'approval = "ask"\n')
    with pytest.raises(PolicyRefused, match="waits for approval"):
        rules.admit(plan(site))
    kit = Kit.open(site.kit)
    approvals = Approvals(kit.state, kit.identity)
    (waiting,) = approvals.pending()
    approvals.approve(waiting.digest().hex())
    rules.admit(plan(site))
    rules.may_begin(m.DESCRIBE, None)
    with pytest.raises(PolicyRefused, match="waits for approval"):
        rules.admit(plan(site, run="run-2"))


def test_a_withdrawn_consent_stops_the_next_answer_and_a_changed_mind_resumes(site: Site) -> None:
    """Also where the rules alone decide, and after a restart."""
    rules = rules_of(site)
    running = take_lock(site.kit / "state" / "lock")
    rules.admit(plan(site))
    decide(site.kit, False, "the board said no", None, print, lambda text: False)
    refused = "rejected the plan of run 'run-1': the board said no"
    for act in (
        lambda: rules.may_begin(m.DESCRIBE, None),
        lambda: rules.may_leave(m.DESCRIBE, RecordDict()),
        lambda: rules.admit(plan(site)),
    ):
        with pytest.raises(PolicyRefused, match=refused):
            act()
    assert refused in str(rules.note_decisions())
    decide(site.kit, True, None, None, print, lambda text: False)
    assert rules.note_decisions() is None
    rules.may_begin(m.DESCRIBE, None)
    told = [one["accepted"] for one in events(site) if one["event"] == "approval"]
    assert told == [False, True]
    running.close()


def test_after_too_many_hidden_failures_a_person_must_look(site: Site) -> None:
    rules = rules_of(site, "max_failures = 2\n")
    rules.admit(plan(site))
    asked = RecordDict({m.CONFIG: ConfigRecord({m.ROUND: 1, "phase": 1})})
    for number in (1, 2):
        rules.may_begin(m.STATISTICS, asked)
        rules.note_failure(f"train {number}", "an output is not finite")
    told = "has stopped taking part after 2 failures; a person there must look"
    with pytest.raises(StoppedAfterFailures, match=told):
        rules.may_begin(m.STATISTICS, asked)
    rules.may_begin(m.STATISTICS, None)  # an answer that is kept
    rules.may_begin(m.UNMASK, asked)  # shares for the sum that it was last in
    rules.admit(plan(site, run="run-2"))  # as many as a server likes
    with pytest.raises(StoppedAfterFailures, match=told):
        rules.may_begin(m.STATISTICS, asked)
    assert "an output is not finite" in resume(site.kit / "state")[0]
    rules.may_begin(m.STATISTICS, asked)


@pytest.mark.parametrize(
    ("word", "refused"), [("every_round", []), ("last", [1, 19]), ("none", [1, 19, 20])]
)
def test_a_hospital_gives_figures_of_the_rounds_that_it_chooses(
    site: Site, word: str, refused: list[int]
) -> None:
    rules = rules_of(site, f'evaluation = "{word}"\n')
    rules.admit(with_model(site))
    for number in (1, 19, 20):  # of 20
        asked = RecordDict({m.CONFIG: ConfigRecord({m.ROUND: number})})
        if number in refused:
            with pytest.raises(NotEvaluating, match="site.toml:1: evaluation: this hospital gives"):
                rules.may_begin(m.EVALUATE, asked)
        else:
            rules.may_begin(m.EVALUATE, asked)


def test_another_description_ends_what_was_accepted(site: Site) -> None:
    rules = rules_of(site)
    rules.admit(plan(site))
    provision.revoke(site.config, "east")
    rules.described(Kit.open(site.kit))
    with pytest.raises(PolicyRefused, match="no run manifest"):
        rules.may_begin(m.DESCRIBE, None)


def test_nothing_is_done_under_a_description_that_has_ended_until_it_is_signed_anew(
    site: Site,
) -> None:
    """And then all goes on as it was accepted, with no person asked again."""
    clock = [now_utc()]
    kit = Kit.open(site.kit)
    kit.site_path.write_text('approval = "ask"\n')
    audit = AuditLog.open(kit.state / "audit.jsonl", kit.name, kit.identity)
    rules = LastWord(kit, audit, None, now=lambda: clock[0])
    with pytest.raises(PolicyRefused, match="waits for approval"):
        rules.admit(plan(site))
    approvals = Approvals(kit.state, kit.identity)
    approvals.approve(approvals.pending()[0].digest())
    accepted = rules.admit(plan(site))
    end = datetime.fromisoformat(kit.description.valid_until)
    clock[0] = end
    rules.may_begin(m.DESCRIBE, None)
    clock[0] = end + timedelta(seconds=1)
    acts = (
        lambda: rules.may_begin(m.DESCRIBE, None),
        lambda: rules.may_leave(m.DESCRIBE, RecordDict()),
        lambda: rules.admit(plan(site)),
        lambda: rules.admit(plan(site)),  # again and again, and written down once
    )
    for act in acts:
        with pytest.raises(DescriptionExpired, match="has expired by this machine's clock"):
            act()
    assert isinstance(rules.note_decisions(), DescriptionExpired)
    assert [line["event"] for line in events(site)].count("policy") == 2
    provision.provision(site.config, now=clock[0])
    rules.described(Kit.open(site.kit))
    assert rules.note_decisions() is None
    rules.may_begin(m.DESCRIBE, None)
    assert str(rules.admit(plan(site))) == str(accepted)
    rules.may_begin(m.DESCRIBE, None)
    clock[0] -= timedelta(days=3)
    with pytest.raises(DescriptionExpired, match="later than this machine's clock; set the clock"):
        rules.may_begin(m.DESCRIBE, None)


def test_a_plan_that_is_looked_at_while_the_description_is_signed_anew_is_accepted(
    site: Site,
) -> None:
    kit = Kit.open(site.kit)
    audit = AuditLog.open(kit.state / "audit.jsonl", kit.name, kit.identity)
    late = now_utc() + timedelta(days=20)

    def begin(run: str, terms: Terms) -> None:
        provision.provision(site.config, now=late)
        rules.described(Kit.open(site.kit))

    rules = LastWord(kit, audit, None, begin=begin, now=lambda: late)
    rules.admit(plan(site))
    assert Kit.open(site.kit).description.order > kit.description.order
    rules.may_begin(m.DESCRIBE, None)


def test_what_the_plan_does_not_list_does_not_leave(site: Site) -> None:
    rules = rules_of(site)
    rules.admit(plan(site))
    with pytest.raises(PolicyRefused, match="isn't in the accepted manifest"):
        rules.may_leave(m.DESCRIBE, RecordDict({"rows": ArrayRecord()}))


def test_the_hospitals_own_device_and_limits_are_laid_over_the_settings(site: Site) -> None:
    rules = rules_of(site, "min_cohort = 7\nmax_epsilon_total = 2.5\n")
    config, kit = rules.terms.config, Kit.open(site.kit)
    assert config.secure_aggregation.min_cohort == 7 and config.privacy.epsilon_limit == 2.5
    assert config.training.device == "cpu"
    kit.site_path.write_text("precision = 'bf16'\n")
    assert Terms.read(kit).config.training.precision == "bf16"
    kit.site_path.write_text("precision = 'fp16'\n")
    with pytest.raises(ConfigError, match="training.precision: 'fp16' needs a GPU"):
        Terms.read(kit)


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(PolicyRefused, match="'cuda:99': torch sees"):
        resolve_device("cuda:99")
    for wrong in ("gpu", "cuda:x", "cuda:256", "cuda:-1", "meta"):
        with pytest.raises(PolicyRefused, match=f"device '{wrong}': .*set 'cpu'"):
            resolve_device(wrong)
    assert resolve_device("auto") in ("cpu", "cuda:0") and resolve_device("cpu") == "cpu"


def test_a_run_that_has_used_up_what_it_may_is_refused_before_it_trains(tmp_path: Path) -> None:
    """At delta 1e-5 one Gaussian release of noise 1 has epsilon 4.4, two have 6.6."""
    federation(tmp_path / "coordinator", hospitals=THREE)
    path = tmp_path / "coordinator" / "federation.toml"
    path.write_text(
        path.read_text()
        + "[privacy]\nunit = 'hospital'\nnoise = 'distributed'\nnoise_multiplier = 1.0\n"
        + "epsilon_limit = 1000.0\n"
    )
    config = load_config(path, ["federation.rounds=1"])
    made = provision.provision(config, now=now_utc())
    site = Site(config, made.kits[0], None)  # type: ignore[arg-type]
    rules = rules_of(site, "max_epsilon_per_run = 6.0\n")
    rules.admit(plan(site))
    rules.admit(with_model(site))
    name, ledger_path = "north", site.kit / "state" / "ledger.sqlite"
    Ledger.create(ledger_path, name).close()
    rules.may_spend()
    entry = Entry(
        federation="heart",
        run="run-1",
        round=1,
        attempt=0,
        request="00" * 32,
        mechanism="update, share of noise",
        unit="hospital",
        clipping_norm=1.0,
        releases=(Release(1.0),),
        simulated=False,
    )
    with Ledger.open(ledger_path, name) as ledger:
        ledger.spend(entry, Limit(1000.0, 1e-5, "hospital"))
    with pytest.raises(PrivacyRefused, match="max_epsilon_per_run: this hospital allows epsilon 6"):
        rules.may_spend()


def with_model(site: Site) -> RecordDict:
    """The second stage of the plan."""
    server = load_server_folder(site.config)
    first = preparation_manifest(site.config, make_task(site.config), server.description, "run-1")
    layout = {"weight": ArraySpec((1, 30), "float32"), "bias": ArraySpec((1,), "float32")}
    signed = stage_two(first, layout, list(layout), {}).signed(server.identity)
    return RecordDict({"manifest": ConfigRecord({m.MESSAGE: signed})})


@pytest.mark.parametrize("asks", [True, False])
def test_records_that_a_study_chooses_are_looked_at_once_a_person_has_approved(
    tmp_path: Path, asks: bool
) -> None:
    """A researcher with a rare code, an age and a day would learn whether there is such a
    patient, study after study, and nobody here would have said yes to any."""
    federation(tmp_path, hospitals=THREE)
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + COHORT)
    config = load_config(toml)
    folder = provision.provision(config, now=now_utc()).kits[0]
    text = '[data.records]\nsource = "fhir"\npath = "export"\n'
    (folder / "site.toml").write_text(f'approval = "{"ask" if asks else "always"}"\n{text}')
    kit = Kit.open(folder)

    looked = list[str]()

    def nobody(run: str, terms: Terms) -> None:
        looked.append(run)
        raise SourceFailed("its rows can't be had")

    audit = AuditLog.open(kit.state / "audit.jsonl", kit.name, kit.identity)
    rules = LastWord(kit, audit, None, data=Data(none=True), begin=nobody)
    shown = plan(Site(config, folder, None))  # type: ignore[arg-type]
    if asks:
        with pytest.raises(WaitsForApproval):
            rules.admit(shown)
        assert not looked
        approvals = Approvals(kit.state, kit.identity)
        (waiting,) = approvals.pending()
        approvals.approve(waiting.digest().hex())
    with pytest.raises(SourceFailed):
        rules.admit(shown)
    said = [one["refused"] for one in events_of(folder) if one["event"] == "policy"]
    assert len(said) == (2 if asks else 1) and "can't be had" in said[-1] and len(looked) == 1
