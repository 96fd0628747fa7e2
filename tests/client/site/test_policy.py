"""A hospital's rules: each refuses by key and line, each can allow, and the stricter one wins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stage_two import stage_two
from wardround.client.privacy.ledger import Entry
from wardround.client.site.plan_checks import planned_epsilon
from wardround.client.site.policy import SitePolicy, load_site
from wardround.client.site.rules import check_rules, check_spent
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, PolicyRefused, PrivacyRefused
from wardround.common.flower.arrays import ArraySpec
from wardround.common.manifest.manifest import Manifest, Versions
from wardround.common.manifest.planned import DEFAULT_FAMILIES, model_family
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.secagg.content import descriptor
from wardround.common.tasks.imaging.options import NetworkOptions
from wardround.common.tasks.options import ModelOptions
from wardround.common.trust.credentials import site_text
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.reception.manifest import preparation_manifest

ROOT = Path(__file__).parent.parent.parent.parent
KEYS = {f"h{number}": Identity.generate().public for number in range(5)}
SERVER, VECTOR = Identity.generate().public, ArraySpec((3,), "float32")
PLAIN = "[secure_aggregation]\nenabled = false\n"
PRIVATE = "[privacy]\nunit = 'example'\nepsilon = 3.0\n"
NOISE = "[privacy]\nunit = 'example'\nnoise_multiplier = 1.0\n"


def description(config: Config) -> Description:
    now, toml = "2026-01-01T00:00:00+00:00", shared_toml(config)
    name, until = config.federation.name, "2026-01-31T00:00:00+00:00"
    return Description(name, 1, "localhost:8443", toml, SERVER, KEYS, (), now, until)


def plan(text: str, path: Path | None = None) -> tuple[Manifest, Description]:
    """The manifest of a federation of five hospitals with these settings, and its description."""
    config = parse_config(text, path=path)
    described = description(config)
    return preparation_manifest(config, make_task(config), described, "run-1"), described


@pytest.fixture
def site(tmp_path: Path) -> Callable[[str], SitePolicy]:
    def make(text: str) -> SitePolicy:
        path = tmp_path / "site.toml"
        path.write_text(text)
        return load_site(path)

    return make


def check(policy: SitePolicy, manifest: Manifest, described: Description, **more: Any) -> None:
    check_rules(policy, manifest, described, policy.apply(described.config()), **more)


# --- what a hospital has a copy of ---------------------------------------------------------------
def test_a_hospital_names_its_own_copy_of_the_encoder(tmp_path: Path, site: Any) -> None:
    text = "[task]\nname = 'text'\nencoder = 'models/tiny'\n"
    config = parse_config(text, path=tmp_path / "federation.toml")
    assert make_task_option(config) == str(tmp_path / "models" / "tiny")
    described = description(config).config()
    assert described.task.options["encoder"] == "tiny"  # no path of the coordinator's
    with pytest.raises(PolicyRefused, match="encoder: the task starts from the encoder 'tiny'"):
        site("").apply(described)
    with pytest.raises(PolicyRefused, match="site.toml:1: encoder: 'tiny': there is no such"):
        site("encoder = 'own/copy'").apply(described)
    with pytest.raises(PolicyRefused, match="site.toml:1: encoder: 'tiny': there is no such"):
        site("encoder = '/'").apply(described)
    (tmp_path / "own" / "copy").mkdir(parents=True)
    applied = site("encoder = 'own/copy'").apply(described)
    assert applied.task.options["encoder"] == str(tmp_path / "own" / "copy")
    bundled = parse_config("[task]\nname = 'text'\n")
    assert "encoder" not in site("").apply(bundled).task.options


def make_task_option(config: Config) -> str:
    """``task.encoder`` as the coordinator's own task gets it."""
    return str(tomllib.loads(config.to_toml())["task"]["encoder"])


def test_what_differs_between_parties_is_in_no_digest(tmp_path: Path, site: Any) -> None:
    text = "[task]\nname = 'text'\nencoder = '{}/tiny'\n"
    one, other = (parse_config(text.format(folder)) for folder in ("a", "b"))
    assert descriptor(one) == descriptor(other)
    assert descriptor(one) != descriptor(parse_config(text.format("a").replace("tiny", "big")))


def test_the_model_family_is_what_would_be_trained() -> None:
    for name, family in (("tabular", "logistic"), ("imaging", "cnn"), ("text", "encoder")):
        assert model_family(parse_config(f"[task]\nname = '{name}'\n")) == family
    kind = "[task]\nname = 'imaging'\n[task.model]\nkind = 'resnet18'\n"
    assert model_family(parse_config(kind)) == "resnet18"
    assert ModelOptions().kind == DEFAULT_FAMILIES["tabular"]
    assert NetworkOptions().kind == DEFAULT_FAMILIES["imaging"]


SPLIT = """
[task]
name = "linked"
identifiers = { id = "exact" }
[task.parties]
h0 = { outcome = "died" }
h1 = { numeric = ["crp"] }
h2 = { numeric = ["age"] }
h3 = { numeric = ["dose"] }
h4 = { images = {} }
[procedure]
name = "split"
link = "who"
"""
DESCRIBED = '[procedure]\nname = "describe"\nsmallest_cell = 4\n'


# --- each key: the run, rules that allow it, rules that don't, and the refusal ------------------
KEY_CASES = {
    "federations": ("", '["fed*", "x"]', '["heart"]', "allows heart, the run's federation is 'fed"),
    "tasks": ("", '["tabular"]', '["heart.py:Heart"]', "allows heart.py:Heart, the run's task is"),
    "model_families": ("", '["mlp", "logistic"]', "[]", "allows none, the run's model family is"),
    "procedures": (
        DESCRIBED.replace("4", "5"),
        '["train", "desc*"]',
        '["train"]',
        "run's procedure is 'describe'",
    ),
    "smallest_cell": (
        DESCRIBED,
        '4\nprocedures = ["*"]',
        '5\nprocedures = ["*"]',
        "allows counts of 5 persons or more, the run would show 4",
    ),
    "split_networks": (
        SPLIT,
        'true\nprocedures = ["split"]',
        'false\nprocedures = ["split"]',
        "allows none (false), the run is a split network",
    ),
    "groups": (
        '[judgement]\ngroups = ["sex"]\ncategories = { sex = ["F", "M"] }\n',
        '["s*"]',
        "[]",
        "allows none, the run's column to judge by is 'sex'",
    ),
    "require_secure_aggregation": (PLAIN, "false", "true", "requires it (true), the run has"),
    "require_blind": ("", "false", "true", "requires it (true), and the run's server can read"),
    "min_cohort": ("", "4", "5", "at least 5 hospitals, the run may open one of 4 (of 5)"),
    "max_rounds": (
        "[federation]\nrounds = 200\n",
        "200",
        "199",
        "allows 199 rounds, the run plans",
    ),
    "max_epsilon_per_run": (PRIVATE, "3.0", "2.9", "allows epsilon 2.9, the run plans 3"),
    "max_epsilon_total": (PRIVATE, "3.0", "2.9", "allows epsilon 2.9, the run plans 3"),
    "max_delta": (
        PRIVATE + "delta = 1e-6\n",
        "1e-6",
        "9e-7",
        "allows delta 9e-07, the run has 1e-06",
    ),
    "privacy_covers": (
        PRIVATE + 'covers = ["training"]\n',
        '["training"]',
        '["preparation", "evaluation"]',
        "covers preparation, evaluation, the run's covers training",
    ),
    "privacy_units": (PRIVATE, '["example"]', '["patient", "hospital"]', "unit is 'example'"),
    "noise": (PRIVATE, '["local"]', '["distributed", "central"]', "run's noise is 'local'"),
    "colluding": ("", "2", "3", "assumes 3, the run's threshold 4 of 5 is not above (5 + 3) / 2"),
}


@pytest.mark.parametrize("key", KEY_CASES)
def test_a_key_allows_and_refuses_with_line_and_both_values(site, key: str) -> None:
    text, allowed, forbidden, reason = KEY_CASES[key]
    manifest, described = plan(text)
    check(site(f"# rules\n\n{key} = {allowed}\n"), manifest, described)
    with pytest.raises(PolicyRefused) as refused:
        check(site(f"# rules\n\n{key} = {forbidden}\n"), manifest, described)
    assert str(refused.value).startswith(f"site.toml:3: {key}: this hospital ")
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_altered_inputs_are_counts_of_persons_too(site) -> None:
    asked = f'[procedure]\nname = "evaluate"\nmodel_digest = "{"0" * 64}"\nsmallest_cell = 4\n'
    rules = site('smallest_cell = 5\nprocedures = ["*"]\n')
    check(rules, *plan(asked))  # nothing of it is counted by persons
    with pytest.raises(PolicyRefused, match="smallest_cell: .* would show 4"):
        check(rules, *plan(asked + "importance = true\n"))


def test_every_key_is_tested_here() -> None:
    elsewhere = {"approval", "threads", "device", "processes", "precision", "encoder", "task_files"}
    elsewhere |= {"trust_server", "evaluation", "max_failures", "ledger", "ledger_units"}
    elsewhere |= {"held_out_key", "engine"}
    elsewhere |= {"columns", "codes", "max_memory_gb", "max_disk_gb", "max_hours"}  # hold back
    elsewhere |= {"modalities", "opt_out"}
    elsewhere |= {"min_persons", "max_questions"}  # steps, questions
    elsewhere |= {"linkage_columns", "vertical_columns", "smallest_link"}  # joint rules
    elsewhere |= {"max_linkages", "max_linked_ids"}
    elsewhere |= {"min_evaluation_rows", "min_training_rows"}
    elsewhere |= {"researchers", "studies_at_once", "data", "studies"}
    assert set(KEY_CASES) | elsewhere == set(SitePolicy.model_fields)


def test_the_defaults_allow_a_federation_with_defaults_and_protect(site) -> None:
    manifest, described = plan("")
    check(site(""), manifest, described)
    check(site(site_text("federation").decode()), manifest, described)
    for text, key in (
        (PLAIN, "require_secure_aggregation"),
        ("[federation]\nrounds = 2000\n", "max_"),
    ):
        with pytest.raises(PolicyRefused, match=f"site.toml: {key}"):
            check(site(""), *plan(text))


def test_a_run_without_privacy_has_no_epsilon_that_a_limit_allows(site) -> None:
    for key in ("max_epsilon_per_run", "max_epsilon_total"):
        with pytest.raises(PolicyRefused, match=f"{key}.* the run has no privacy"):
            check(site(f"{key} = 1e9\n"), *plan(""))


def test_a_split_network_has_no_epsilon_that_a_limit_allows(site) -> None:
    """Its noise stands in no ledger."""
    noised = SPLIT + "clip = 1.0\nnoise_multiplier = 100.0\n"
    rules = 'split_networks = true\nprocedures = ["split"]\n'
    check(site(rules), *plan(noised))
    with pytest.raises(PolicyRefused, match="max_epsilon_per_run.* the run has no privacy"):
        check(site(rules + "max_epsilon_per_run = 1e9\n"), *plan(noised))


def test_a_delta_that_protects_nobody_is_refused_by_the_defaults(site) -> None:
    """At delta 0.1 noise of half the clipping norm has an epsilon below 3, and one unit in ten may
    be shown whole."""
    text = PRIVATE + "delta = 0.1\n"
    for policy in (site(""), site("max_epsilon_per_run = 3.0\n")):
        with pytest.raises(PolicyRefused, match="max_delta: this hospital allows delta 1e-05"):
            check(policy, *plan(text))
    check(site("max_delta = 0.1\nmax_epsilon_per_run = 3.0\n"), *plan(text))


def test_noise_of_the_server_has_no_epsilon_unless_the_server_is_trusted(site) -> None:
    text = "[training]\nlocal_steps = 1\n" + PRIVATE + "noise = 'central'\n"
    check(site(""), *plan(text))
    for key in ("max_epsilon_per_run", "max_epsilon_total"):
        with pytest.raises(PolicyRefused, match=f"{key}.*noise of the server's only.*trust_server"):
            check(site(f"{key} = 1e9\n"), *plan(text))
        check(site(f"{key} = 3.0\ntrust_server = true\n"), *plan(text))
        with pytest.raises(PolicyRefused, match=f"{key}.* plans 3"):
            check(site(f"{key} = 2.9\ntrust_server = true\n"), *plan(text))


def test_a_group_of_the_cohort_alone_counts_too(site) -> None:
    """3 of 5 hospitals each round: their sum, not the one of all five, is the smallest."""
    manifest, described = plan("[federation]\nclients_per_round = 3\n")
    check(site("min_cohort = 3\n"), manifest, described)
    with pytest.raises(PolicyRefused, match=r"min_cohort: .* one of 3 \(of 3\)"):
        check(site("min_cohort = 4\n"), manifest, described)


def test_shares_of_noise_for_fewer_colluding_hospitals_are_refused(site) -> None:
    text = "[privacy]\nunit = 'hospital'\nnoise = 'distributed'\nepsilon = 3.0\n"
    check(site("colluding = 0\n"), *plan(text))
    with pytest.raises(PolicyRefused, match="colluding: this hospital assumes 1, the run's shares"):
        check(site("colluding = 1\n"), *plan(text))


# --- epsilon where only the noise is configured -------------------------------------------------
def planned(text: str, units: int | None) -> float:
    manifest, described = plan(text)
    return planned_epsilon(manifest, described.config(), units)


def test_epsilon_follows_from_noise_rounds_and_units() -> None:
    rounds = "[federation]\nrounds = 10\n[training]\nbatch_size = 10\n"
    sizes = Release(20.0)
    stepwise = epsilon([sizes, Release(1.0, 0.1, 100)], 1e-5)
    assert planned(rounds + NOISE, 100) == pytest.approx(stepwise)
    hospital = epsilon([Release(1.0, 1.0, 10)], 1e-5)
    assert planned(rounds + NOISE.replace("example", "hospital"), None) == pytest.approx(hospital)
    summed = rounds + "local_steps = 1\n" + NOISE + "noise = 'central'\n"
    # the rate is 10 * 5 / (all units), and the four others have at least one each
    common = epsilon([sizes, Release(1.0, 50 / 104, 10)], 1e-5)
    assert planned(summed, 100) == pytest.approx(common)
    everyone = epsilon([sizes, Release(1.0, 1.0, 10)], 1e-5)
    assert planned(summed, None) == pytest.approx(everyone)


def test_without_a_number_of_units_epsilon_is_never_too_small() -> None:
    """Also where a batch is nearly all rows: then an epoch has two steps."""
    for steps in ("", "local_steps = 3\n"):
        text = f"[federation]\nrounds = 3\n[training]\nbatch_size = 32\n{steps}{NOISE}"
        most = planned(text, None)
        assert all(planned(text, units) <= most for units in (1, 20, 32, 33, 40, 63, 64, 65, 1000))


def test_noise_alone_is_held_against_the_limit_with_this_hospitals_units(site) -> None:
    manifest, described = plan(NOISE)
    small, large = (planned(NOISE, units) for units in (50, 5000))
    policy = site(f"max_epsilon_per_run = {(small + large) / 2}\n")
    check(policy, manifest, described, units=5000)
    for units in (50, None):
        with pytest.raises(PolicyRefused, match="max_epsilon_per_run"):
            check(policy, manifest, described, units=units)


def entry(run: str, release: Release, federation: str = "federation") -> Entry:
    return Entry(federation, run, 1, 0, "ab", "dp-sgd", "example", 1.0, (release,), False)


def test_rounds_that_are_repeated_never_pass_what_one_run_may_cost(site) -> None:
    config = parse_config(NOISE)
    sizes, one = entry("", Release(20.0)), Release(1.0, 0.1, 10)
    three = epsilon([Release(20.0), Release(1.0, 0.1, 30)], 1e-5)
    policy = site(f"max_epsilon_per_run = {three + 1e-9}\n")
    others = [entry("run-0", one), entry("run-1", one, "elsewhere")] * 9
    for rounds in range(3):
        check_spent(policy, [sizes, *others, *[entry("run-1", one)] * rounds], config, "run-1")
    spent = [sizes, *others, *[entry("run-1", one)] * 3]
    with pytest.raises(PrivacyRefused) as refused:
        check_spent(policy, spent, config, "run-1")
    assert str(refused.value).startswith("site.toml:1: max_epsilon_per_run: this hospital")
    check_spent(policy, spent, config, "run-2")
    check_spent(policy, spent, parse_config(""), "run-1")
    check_spent(site(""), spent, config, "run-1")
    without_sizes = epsilon([Release(1.0, 0.1, 30)], 1e-5)
    assert without_sizes < three
    with pytest.raises(PrivacyRefused):
        check_spent(site(f"max_epsilon_per_run = {without_sizes}\n"), spent[:-1], config, "run-1")


# --- this hospital's own settings ---------------------------------------------------------------
def test_the_stricter_of_both_wins(site) -> None:
    federation = "[secure_aggregation]\nmin_cohort = 4\ncolluding = 1\nthreads = 2\n"
    federation += PRIVATE + "epsilon_limit = 5.0\n"
    config = parse_config(federation)

    def own(text: str) -> tuple[Any, ...]:
        applied = site(text).apply(config)
        secure = applied.secure_aggregation
        limit = applied.privacy.epsilon_limit
        return secure.min_cohort, secure.colluding, secure.threads, limit, applied.training.device

    assert own("") == (4, 1, 2, 5.0, "auto")
    stricter = "min_cohort = 6\ncolluding = 2\nthreads = 8\nmax_epsilon_total = 4.0\n"
    assert own(stricter + "device = 'cuda:1'\n") == (6, 2, 8, 4.0, "cuda:1")
    looser = "min_cohort = 2\ncolluding = 0\nthreads = 1\nmax_epsilon_total = 9.0\n"
    assert own(looser + "device = 'auto'\n") == (4, 1, 1, 5.0, "auto")
    assert site("").apply(config).training.precision == "float32"
    assert site("precision = 'bf16'\n").apply(config).training.precision == "bf16"
    assert site("").apply(config).training.processes == 1
    assert site("processes = 2\n").apply(config).training.processes == 2
    assert site("").apply(config).privacy.engine == "auto"
    assert site("engine = 'opacus'\n").apply(config).privacy.engine == "opacus"
    bare = parse_config(PRIVATE)
    assert site("").apply(bare).privacy.epsilon_limit is None
    assert site("max_epsilon_total = 9.0\n").apply(bare).privacy.limit == 9.0


def test_what_is_a_hospitals_own_changes_nothing_that_is_shared(site) -> None:
    config = parse_config(PRIVATE)
    text = "min_cohort = 5\ncolluding = 1\nthreads = 4\nmax_epsilon_total = 9.0\ndevice = 'auto'\n"
    text += "engine = 'own'\n"
    assert descriptor(site(text).apply(config)) == descriptor(config)


# --- code never travels -------------------------------------------------------------------------
TASK = """
from wardround.common.tasks.tabular import TabularTask
class Mine(TabularTask):
    pass
"""


def test_a_task_from_a_file_runs_only_from_this_hospitals_copy_of_it(site, tmp_path: Path) -> None:
    server = tmp_path / "server"
    for folder in (server, tmp_path / "tasks"):
        folder.mkdir()
        (folder / "mine.py").write_text(TASK)
    manifest, described = plan("[task]\nname = 'mine.py:Mine'\n", server / "federation.toml")
    named = 'max_rounds = 99\n[task_files]\n"mine.py:Mine" = "tasks/mine.py"\n'
    policy = site(named)
    check(policy, manifest, described)
    applied = policy.apply(described.config())
    assert applied.task.name == f"{tmp_path.resolve()}/tasks/mine.py:Mine"
    assert descriptor(applied).hex() == manifest.descriptor
    assert type(make_task(applied)).__name__ == "Mine"

    with pytest.raises(
        PolicyRefused, match="task_files: the task is 'mine.py:Mine', and code never"
    ):
        site("").apply(described.config())
    (tmp_path / "tasks" / "mine.py").write_text(TASK + "# other\n")
    with pytest.raises(PolicyRefused, match=r"site.toml:2: task_files: .*SHA-256.*compare the two"):
        check(policy, manifest, described)
    (tmp_path / "tasks" / "mine.py").unlink()
    with pytest.raises(PolicyRefused, match="task_files: .*no such file") as refused:
        policy.apply(described.config())
    assert str(tmp_path) not in str(refused.value)


# --- a plan that isn't this federation's, or promises something else ----------------------------
def leaf(**changes: Any) -> Leaf:
    values: dict[str, Any] = {"message_type": m.TRAIN, "record": m.ARRAYS, "name": "extra"}
    return Leaf(**values | {"shape": (1,), "dtype": "float32", "protection": "masked"} | changes)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"protocol": 1}, "protocol is 1, this hospital's"),
        ({"versions": Versions(wardround="9.9", flwr="1", torch="2")}, "wardround is 9.9"),
        ({"description_version": 2}, "description's version is 2, this hospital's 1"),
        ({"description": "ab" * 32}, "description is abab"),
        ({"roster": ("h0", "h1", "h2", "h3", "x")}, "roster is h0, h1, h2, h3, x, this"),
        ({"roster": ("h0", "h1", "h2")}, "min_cohort|roster is h0, h1, h2, this"),
        ({"descriptor": "ab" * 32}, "settings' digest is abab"),
        ({"strategy": "fedprox"}, "strategy is fedprox, this hospital's fedavg"),
        ({"algorithms": ("plain", "steal")}, "algorithm 'steal' is unknown"),
        ({"task": "other"}, "task is other, this hospital's tabular"),
        ({"model_family": "mlp"}, "model family is mlp"),
    ],
)
def test_a_plan_of_something_else_is_refused_by_field(site, changes, names) -> None:
    manifest, described = plan("")
    other = manifest.model_copy(update=changes | {"cohort": 3})
    with pytest.raises(PolicyRefused, match=names):
        check(site("min_cohort = 2\n"), other, described)


@pytest.mark.parametrize(
    ("claimed", "names"),
    [
        (PRIVATE, "privacy.unit is example, this hospital's none"),
        ("[secure_aggregation]\nthreshold = 0.8\n", "secure_aggregation.threshold is 0.8"),
        ("[secure_aggregation]\nbits = 16\n", "secure_aggregation.bits is 16"),
        ("[training]\nlr = 0.9\n", "settings' digest"),
    ],
)
def test_a_plan_that_claims_other_settings_is_refused(site, claimed: str, names: str) -> None:
    described = description(parse_config(""))
    config = parse_config(claimed)
    lying = preparation_manifest(config, make_task(config), described, "run-1")
    with pytest.raises(PolicyRefused, match=names):
        check(site(""), lying, described)


def test_a_list_that_differs_from_what_this_program_sends_is_refused(site) -> None:
    manifest, described = plan("")
    second = stage_two(manifest, {"weight": VECTOR}, ["weight"], {})
    policy = site("")
    check(policy, second, described)
    for one in (manifest, second):
        for extra in (
            leaf(message_type=m.DESCRIBE, record="patients"),
            leaf(message_type=m.EVALUATE),
            leaf(name="weight2", protection="none"),
            leaf(record=m.METRICS, dtype="float"),
        ):
            lying = one.model_copy(update={"leaves": (*one.leaves, extra)})
            with pytest.raises(PolicyRefused, match="lists .* would not send under these settings"):
                check(policy, lying, described)
        for fixed in one.leaves:
            if fixed.message_type == m.STATISTICS or fixed in second.leaves and fixed.open:
                continue
            rest = tuple(leaf for leaf in one.leaves if leaf != fixed)
            weaker = fixed.model_copy(update={"protection": "sizes", "shape": (1, 2)})
            lying = one.model_copy(update={"leaves": (*rest, weaker)})
            with pytest.raises(PolicyRefused, match="lists|doesn't list"):
                check(policy, lying, described)
    without = manifest.model_copy(update={"leaves": manifest.leaves[1:]})
    with pytest.raises(PolicyRefused, match="doesn't list 'describe/hospital'"):
        check(policy, without, described)


def test_a_second_plan_with_buffers_beside_noise_is_this_programs_own(site) -> None:
    manifest, described = plan("[privacy]\nunit = 'hospital'\nepsilon = 3.0\n")
    layout = {"weight": VECTOR, "mean": VECTOR}
    check(site(""), stage_two(manifest, layout, ["weight"], {}), described)


# --- the file, its template and its page --------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\nmax_round = 5\n", ":2: max_round: unknown key; did you mean 'max_rounds'?"),
        ("hospital_color = 5\n", ":1: hospital_color: unknown key; allowed: approval,"),
        ("max_rounds = '5'\n", ":1: max_rounds: input should be a valid integer"),
        ("max_rounds = true\n", ":1: max_rounds"),
        ("min_cohort = 1\n", ":1: min_cohort: input should be greater"),
        ("approval = 'never'\n", ":1: approval: input should be 'always' or 'ask'"),
        ("device = 'gpu'\n", ":1: device"),
        ("precision = 'int8'\n", ":1: precision"),
        ("processes = 0\n", ":1: processes"),
        ("max_epsilon_total = inf\n", ":1: max_epsilon_total"),
        ("max_epsilon_per_run = 0\n", ":1: max_epsilon_per_run"),
        ("federations = 'all'\n", ":1: federations"),
        ("[task_files]\n'mine.py' = 'x/mine.py'\n", "task_files"),
        ("[task_files]\n'mine.py:A' = 'x/other.py'\n", "'mine.py:A' must be a file of that name"),
        ("max_rounds = \n", ": not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_line_and_key(site, text, names) -> None:
    with pytest.raises(ConfigError) as error:
        site(text)
    assert names in str(error.value) and "site.toml" in str(error.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_site(tmp_path / "site.toml")
    (tmp_path / "site.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="can't be read"):
        load_site(tmp_path / "site.toml")
    (tmp_path / "site.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="1 MiB"):
        load_site(tmp_path / "site.toml")


def test_the_template_names_every_key_and_its_commented_defaults_are_the_defaults(site) -> None:
    text = site_text("heart").decode()
    named = site('federations = ["heart"]\n')
    assert site(text).model_dump() == named.model_dump()
    found = dict(re.findall(r"^(?:# )?(\w+) = (.+?)(?:\s+#.*)?$", text, re.M))
    tables = {"task_files", "data", "studies"}
    assert set(found) | tables == set(SitePolicy.model_fields) and "[task_files]" in text
    examples = set(re.findall(r"^# (\w+) = .*# example:", text, re.M))
    for key, value in found.items():
        given = getattr(site(f"{key} = {value}\n"), key)
        if key not in examples | {"federations"}:
            assert given == SitePolicy.model_fields[key].default, key
        assert (key in examples) == (SitePolicy.model_fields[key].default is None), key


def test_every_key_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", page.split("\n## ")[0], re.M))
    assert set(rows) == set(SitePolicy.model_fields)
    for key, text in rows.items():
        default = SitePolicy.model_fields[key].default
        if text.startswith("`"):
            assert tomllib.loads(f"x = {text.strip('`')}")["x"] == default, key
        else:
            assert default in (None, {}), key


# --- a network's studies -------------------------------------------------------------------------
STUDIES = """
max_rounds = 50
[data.icu]
path = "icu.csv"
[data.all]
path = "/data/all.csv"
[studies."sepsis-mortality"]
data = "icu"
approval = "always"
max_epsilon_total = 8
[studies."sepsis-*"]
data = "all"
max_rounds = 3
researchers = ["anna", "b*"]
"""


def test_the_first_pattern_in_the_file_decides_alone(site: Any, tmp_path: Path) -> None:
    found = {name: site(STUDIES).for_study(name) for name in ("sepsis-mortality", "sepsis-2", "x")}
    said = [(one.approval, one.max_rounds, one.max_epsilon_total) for one in found.values()]
    assert said == [("always", 50, 8), ("ask", 3, None), ("ask", 50, None)]
    places = [one.mapped and one.mapped.path for one in found.values()]
    assert places == [tmp_path / "icu.csv", Path("/data/all.csv"), None]
    assert found["sepsis-2"].researchers == ["anna", "b*"] and found["x"].researchers == ["*"]
    line = str(found["sepsis-2"].refused("max_rounds", "no"))
    assert line.startswith("site.toml:13: ") and "max_rounds: no" in line
    swapped = STUDIES.replace("sepsis-mortality", "y").replace("sepsis-*", "sepsis-m*")
    assert site(swapped).for_study("sepsis-mortality").max_rounds == 3
    assert site("approval = 'always'\n").for_study("x").approval == "always"
    assert (
        site("approval = 'always'\n[studies.x]\napproval = 'ask'").for_study("x").approval == "ask"
    )


def test_the_page_for_a_hospital_has_rules_that_there_are(site: Any) -> None:
    page = (ROOT / "docs" / "hospital.md").read_text()
    text = "\n".join(re.findall(r"^    (.*)$", page, re.M))
    rules = site(text)
    assert rules.for_study("sepsis-x").mapped.path == Path("/data/icu.csv")
    assert rules.for_study("heart-failure").max_epsilon_total == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[studies.a]\ndata = 'b'", "site.toml:2: studies.a.data: there is no table .data.b."),
        ("[studies.a]\nmax_round = 1", "site.toml:2: studies.a.max_round: unknown key"),
        ("[studies.a]\nmax_rounds = 0", "site.toml:2: studies.a.max_rounds: "),
        ("[studies.a]\nledger = 'x'", "studies.a.ledger: is the hospital's, not a study's"),
        ("[studies.a]\nheld_out_key = 'x'", "held_out_key: is the hospital's, not a study's"),
        ("[studies.a]\nstudies_at_once = 3", "is the hospital's, not a study's"),
        ("[data.a]\nfile = 'x'", "site.toml:"),
        ("[data.'a b']\npath = 'x'", "data"),
    ],
)
def test_a_study_s_table_has_rules_that_there_are(site: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        site(text)
