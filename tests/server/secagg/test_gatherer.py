"""Secure aggregation in the round loop: what leaves a hospital, and what a dropout costs."""

from __future__ import annotations

import io
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message
from rich.console import Console

from wardround.common.errors import ConfigError, RoundFailed, StrategyError
from wardround.common.figures.figure import Figure
from wardround.common.flower.arrays import decode_arrays, encode_arrays
from wardround.common.protocol import names as m
from wardround.common.secagg import messages as wire
from wardround.common.tasks.base import Examples
from wardround.server.display.console import Progress
from wardround.simulations.population.identities import fresh_identities, shared_identities

pytestmark = pytest.mark.usefixtures("exact_parts")

FIVE = "[federation]\nrounds = 2\nmin_clients = 3\n[data]\ntest_fraction = 0.25\n"
SECURE = "[secure_aggregation]\nenabled = true\n"
LOOSE = SECURE + "threshold = 0.5\nmin_cohort = 2\n"


@pytest.fixture
def five() -> dict[str, Examples]:
    """Five hospitals of 8 to 24 rows with optima of their own."""
    generator = torch.Generator().manual_seed(3)
    shards = {}
    for index, name in enumerate("abcde"):
        x = torch.rand(8 + 4 * index, 1, generator=generator) + 0.5
        shards[name] = Examples(x, x[:, 0] * (index - 1))
    return shards


class Wire:
    """Wraps a client app: keeps every reply, and may lose or change messages."""

    def __init__(self, lose=lambda kind, name, count: False) -> None:
        self.replies: list[tuple[str, str, Message]] = []
        self.lose, self.count = lose, Counter()

    def __call__(self, app):
        def answer(message, context):
            kind, name = message.metadata.message_type, context.node_config["hospital"]
            self.count[kind, name] += 1
            reply = app(message, context)
            self.replies.append((kind, name, reply))
            if self.lose(kind, name, self.count[kind, name]):
                raise ConnectionError("lost on the way")
            return reply

        return answer


def test_the_model_and_all_figures_are_those_of_plain_sums(federate, settings, five) -> None:
    """A step is 8 / 2^22 = 2e-6, in the mean of five at most 24 / 8 times that, over two rounds."""
    secure, plain = federate(settings(FIVE + SECURE), five), federate(settings(FIVE), five)
    assert secure.weight() == pytest.approx(plain.weight(), abs=2e-5)
    for one, other in zip(secure.recorder.rows, plain.recorder.rows, strict=True):
        assert one["overall"]["test"] == pytest.approx(other["overall"]["test"], rel=1e-4)
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["accepted"] == sorted(other["accepted"])
        assert (one["hospitals"], one["hidden"], one["clipped"]) == ({}, True, 0.0)
        assert (bool(other["hospitals"]), other["hidden"], other["clipped"]) == (True, False, None)


def test_nothing_leaves_but_sizes_keys_and_masked_vectors(federate, settings, five, caplog) -> None:
    """Every reply of every kind, and the log: no float of a hospital, and no two vectors alike."""
    caplog.set_level(logging.DEBUG)
    seen = Wire()
    federate(settings(FIVE + SECURE), five, wrap=seen)
    kinds = Counter(kind for kind, _, _ in seen.replies)
    assert kinds == {
        m.DESCRIBE: 5,
        m.HELLO: 5,
        m.GROUP: 5,
        m.KEYS: 5,
        m.LAYOUT: 5,
        m.TRAIN: 10,
        m.EVALUATE: 10,
        m.UNMASK: 20,
    }
    vectors = []
    for kind, _, reply in seen.replies:
        if kind == m.DESCRIBE:
            assert set(reply.content) == {"describe", m.SIZES}
            continue
        assert set(reply.content) == {m.SECAGG}
        record = reply.content[m.SECAGG]
        assert set(record) <= {m.MESSAGE, m.VECTOR}
        if m.VECTOR in record:
            vectors.append(record[m.VECTOR])
    assert len(vectors) == 20 == len(set(vectors))
    joined = np.frombuffer(b"".join(vectors), np.uint8)
    # zero bytes would be frequent in unmasked small numbers; here their share is 1/256
    assert abs((joined == 0).mean() - 1 / 256) < 5 * np.sqrt(1 / 256 / len(joined))


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        (m.TRAIN, "ab"),  # trained, but the upload never came
        (m.UNMASK, "ab"),  # uploaded, then gone
        (m.EVALUATE, "de"),
        (m.KEYS, "c"),  # gone before the keys were fixed
    ],
)
def test_dropouts_up_to_n_minus_t_cost_no_round(federate, settings, five, kind, lost) -> None:
    seen = Wire(lambda k, name, count: k == kind and name in lost and count == 1)
    run = federate(settings(FIVE + LOOSE), five, wrap=seen)
    assert [row["attempt"] for row in run.recorder.rows] == [1, 1]
    first, second = (row["accepted"] for row in run.recorder.rows)
    gone = set(lost) if kind in (m.TRAIN, m.KEYS) else set()
    assert set(first) == set("abcde") - gone
    assert run.recorder.failures == []
    # an uploaded contribution survives its owner: all five are in the sum
    expected = dict(five) if kind in (m.UNMASK, m.EVALUATE) else None
    if expected:
        plain = federate(settings(FIVE), expected)
        assert run.weight() == pytest.approx(plain.weight(), abs=2e-5)
    assert set(second) >= set("abcde") - set(lost)


@pytest.mark.parametrize("kind", [m.TRAIN, m.UNMASK])
def test_below_the_threshold_the_round_is_repeated_with_fresh_masks_or_opened_later(
    federate, settings, five, kind
) -> None:
    """Whoever has given shares takes part in no other sum of the round: the same one is opened by
    the next attempt, and nobody sends a second vector."""
    seen = Wire(lambda k, name, count: k == kind and name in "abc" and count == 1)
    run = federate(settings(FIVE + LOOSE), five, wrap=seen)
    assert [row["attempt"] for row in run.recorder.rows] == [2, 1]
    (failure,) = run.recorder.failures
    assert {m.TRAIN: "2 of 5 hospitals answered", m.UNMASK: "of 3 shares came"}[kind] in failure
    plain = federate(settings(FIVE), five)
    assert run.weight() == pytest.approx(plain.weight(), abs=2e-5)
    uploads = [
        wire.Upload.from_bytes(reply.content[m.SECAGG][m.MESSAGE])
        for k, name, reply in seen.replies
        if k == m.TRAIN and name == "d"
    ]
    count = {m.TRAIN: 3, m.UNMASK: 2}[kind]
    assert len(uploads) == count and len({upload.index for upload in uploads}) == count
    if kind == m.UNMASK:
        return
    vectors = [
        r.content[m.SECAGG][m.VECTOR] for k, n, r in seen.replies if (k, n) == (m.TRAIN, "d")
    ]
    same = np.frombuffer(vectors[0], np.uint8) == np.frombuffer(vectors[1], np.uint8)
    assert same.mean() < 0.2  # the same update (the repeat trains alike) under other masks


def test_a_hospital_that_stays_away_is_left_out_and_may_come_back(federate, settings, five) -> None:
    away = Wire(lambda kind, name, count: name == "b" and kind in (m.HELLO, m.GROUP) and count < 2)
    run = federate(settings(FIVE.replace("rounds = 2", "rounds = 8") + LOOSE), five, wrap=away)
    here = ["b" in row["accepted"] for row in run.recorder.rows]
    assert not here[0] and here[-1]
    assert len(run.recorder.rows) == 8


def test_a_server_that_restarts_goes_on_with_a_new_session(federate, settings, five) -> None:
    """Killed when the uploads of round 2 are to be opened: the same hospitals, with all that they
    remember, train the round again under new keys, and the run ends as if nothing had happened."""

    class Killed(BaseException):
        """Not an Exception: nothing on the way may catch it."""

    asked: list[str] = []

    def wrap(app):
        def answer(message, context):
            if message.metadata.message_type == m.UNMASK:
                asked.append(context.node_config["hospital"])
                if len(asked) == 12:  # five for each of the two sums of round 1, then two
                    raise Killed
            return app(message, context)

        return answer

    config = settings(FIVE + LOOSE)
    with pytest.raises(Killed) as stopped:
        federate(config, five, wrap=wrap)
    error = stopped.value
    assert [row["round"] for row in error.recorder.rows] == [1]
    session = {
        n: bytes(s["secagg-session"]["session"]) for n, s in error.grid.clients.states().items()
    }
    run = federate(config, five, grid=error.grid, directory=error.directory)
    assert [row["round"] for row in run.recorder.rows] == [2]
    assert run.weight() == pytest.approx(federate(settings(FIVE), five).weight(), abs=2e-5)
    for name, state in run.grid.clients.states().items():
        assert state["secagg-session"]["session"] != session[name]


def test_a_hospital_refuses_a_plain_request_whatever_the_server_is_set_to(
    federate, settings, five
) -> None:
    """The hospitals' own configuration is secure, the server's is not."""

    def plain_server(config):
        table = config.secure_aggregation.model_copy(update={"enabled": False})
        return config.model_copy(update={"secure_aggregation": table})

    with pytest.raises(RoundFailed, match="answers with secure aggregation only"):
        federate(settings(FIVE + SECURE), five, server_config=plain_server)


def test_hospitals_and_server_with_other_settings_don_t_meet(federate, settings, five) -> None:
    def faster(config):
        training = config.training.model_copy(update={"lr": 0.2})
        return config.model_copy(update={"training": training})

    with pytest.raises(RoundFailed, match="federation.toml or roster differs"):
        federate(settings(FIVE + SECURE), five, server_config=faster)


def test_a_hospitals_own_policy_has_the_last_word(federate, settings, five) -> None:
    """The server would open sums of three; the hospitals insist on four, and on two colluders."""

    def lax(config):
        update = {"min_cohort": 2, "colluding": 0}
        table = config.secure_aggregation.model_copy(update=update)
        return config.model_copy(update={"secure_aggregation": table})

    strict = SECURE + "threshold = 0.5\nmin_cohort = 4\n"
    with pytest.raises(RoundFailed, match="this hospital's secure_aggregation.min_cohort is 4"):
        federate(settings(FIVE + strict), five, server_config=lax)
    wary = LOOSE + "colluding = 2\n"
    with pytest.raises(RoundFailed, match="threshold 3 of 5 is not above"):
        federate(settings(FIVE + wary), five, server_config=lax)


def test_settings_that_can_not_work_are_refused_before_anyone_is_asked(
    federate, settings, five
) -> None:
    two = {name: five[name] for name in "ab"}
    with pytest.raises(ConfigError, match="secure_aggregation.min_cohort: 2 hospitals take part"):
        federate(settings(SECURE + "[federation]\nmin_clients = 2\n"), two)
    with pytest.raises(ConfigError, match="threshold 4 of 5 is not above .5 . 3. / 2"):
        federate(settings(FIVE + SECURE + "colluding = 3\n"), five)
    with pytest.raises(ConfigError, match="below secure_aggregation.min_cohort"):
        settings(SECURE + "[federation]\nmin_clients = 1\nclients_per_round = 2\n")
    with pytest.raises(StrategyError, match="'krum' compares single updates"):
        federate(settings(FIVE + SECURE + "[strategy]\nname = 'krum'\n"), five)


@pytest.mark.parametrize(
    ("bits", "clip", "tolerance"), [(16, 1.0, 2e-3), (32, 8.0, 2e-5), (32, 0.01, 1e-7)]
)
def test_rings_and_clips(federate, settings, five, bits, clip, tolerance) -> None:
    """16 bits: (2^15 - 1) / 5 levels of a clip of 1, weighted up to 24 / 14 rows: 2.6e-4 a round.
    A clip below the updates' size is felt, and told."""
    table = f"bits = {bits}\nclip = {clip}\n"
    secure, plain = federate(settings(FIVE + SECURE + table), five), federate(settings(FIVE), five)
    if clip >= 1:
        assert secure.weight() == pytest.approx(plain.weight(), abs=tolerance)
        assert secure.recorder.rows[0]["clipped"] == 0
    else:
        assert abs(secure.weight()) <= 2 * clip + tolerance < abs(plain.weight())
        assert secure.recorder.rows[0]["clipped"] > 0.5


@pytest.mark.parametrize("most", ["1000000000", str(2**53 - 1)])
def test_a_cap_above_the_largest_hospital_is_as_none(federate, settings, five, most: str) -> None:
    loose = federate(settings(FIVE + SECURE + f"max_examples = {most}\n"), five)
    none = federate(settings(FIVE + SECURE), five)
    assert loose.weight() == none.weight()


def test_a_rounding_that_swallows_the_update_is_told(federate, settings, five) -> None:
    """The weight moves by about 1 in the first round; the levels of a clip of 1e9 are 240 apart."""

    def rows(clip: str) -> list[dict]:
        text = FIVE + SECURE + f"clip = {clip}\n"
        return federate(settings(text), five).recorder.rows

    coarse, fine = rows("1e9"), rows("8.0")
    assert coarse[0]["resolution"] < 1 < 100 < fine[0]["resolution"]

    def said(rows: list[dict]) -> str:
        console = Console(file=io.StringIO(), width=400)
        progress = Progress(console, 2, Figure("loss", "lower"))
        for row in rows:
            progress.round_committed(row)
        return console.file.getvalue()

    assert said(coarse).count("lower secure_aggregation.clip") == 1
    assert "lower secure_aggregation.clip" not in said(fine)


def test_a_cap_on_examples_is_the_most_that_a_hospital_counts(federate, settings, five) -> None:
    """With a cap of 1 every hospital counts the same: the plain run with uniform weights."""
    capped = federate(settings(FIVE + SECURE + "max_examples = 1\n"), five)
    uniform = federate(settings(FIVE + "[strategy]\nweighting = 'uniform'\n"), five)
    assert capped.weight() == pytest.approx(uniform.weight(), abs=2e-5)


def test_cohorts_are_drawn_and_masked_among_themselves(federate, settings, five) -> None:
    text = FIVE.replace("min_clients = 3", "min_clients = 3\nclients_per_round = 3")
    secure, plain = federate(settings(text + SECURE), five), federate(settings(text), five)
    rows = zip(secure.recorder.rows, plain.recorder.rows, strict=True)
    assert all(one["cohort"] == other["cohort"] and len(one["cohort"]) == 3 for one, other in rows)
    assert secure.weight() == pytest.approx(plain.weight(), abs=2e-5)


def test_an_upload_that_is_no_vector_is_refused_and_the_others_go_on(
    federate, settings, five
) -> None:
    def wrap(app):
        def answer(message, context):
            reply = app(message, context)
            if message.metadata.message_type == m.TRAIN and context.node_config["hospital"] == "a":
                record = dict(reply.content[m.SECAGG])
                reply.content[m.SECAGG] = ConfigRecord(record | {m.VECTOR: record[m.VECTOR] + b"x"})
            return reply

        return answer

    run = federate(settings(FIVE + LOOSE), five, wrap=wrap)
    assert all(row["accepted"] == list("bcde") for row in run.recorder.rows)
    assert {(n, s) for n, s, _ in run.recorder.refusals} == {("a", "train")}
    assert "bytes, expected" in run.recorder.refusals[0][2]


def test_a_hospital_that_is_shown_another_model_spoils_the_sum_and_nothing_is_learned(
    federate, settings, five
) -> None:
    """In round 2, whose model nobody has seen before where only the last round is evaluated."""

    def wrap(app):
        def answer(message, context):
            if message.metadata.message_type == m.TRAIN and context.node_config["hospital"] == "a":
                shown = decode_arrays(message.content[m.ARRAYS])
                other = {name: value + np.float32(1e-6) for name, value in shown.items()}
                message.content[m.ARRAYS] = encode_arrays(other)
            return app(message, context)

        return answer

    with pytest.raises(RoundFailed, match="the masks don't cancel: a hospital was shown another"):
        federate(settings(FIVE + LOOSE + "[evaluation]\nevery = 2\n"), five, wrap=wrap)


def test_processes_of_one_machine_share_simulated_identities(tmp_path) -> None:
    names = ["a", "b"]
    one, two = shared_identities(names, tmp_path), shared_identities(names, tmp_path)
    assert [one[n].public for n in names] == [two[n].public for n in names]
    other = shared_identities(["a", "c"], tmp_path)
    assert other["a"].public != one["a"].public
    assert fresh_identities(names)["a"].public != fresh_identities(names)["a"].public
    (path, _) = sorted(tmp_path.iterdir(), key=lambda p: p.name)
    assert path.stat().st_mode & 0o077 == 0
