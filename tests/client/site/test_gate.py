"""The gate, around real federations of every mode: all their replies pass, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from tests.stage_two import stage_two
from wardround.client.site.gate import Gate
from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused
from wardround.common.flower.arrays import layout_of
from wardround.common.manifest.manifest import Manifest, summary
from wardround.common.model.entries import SHARED, entries_of
from wardround.common.model.named import build_model, model_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.kept import BeginReply
from wardround.common.protocol.leaf import ANY
from wardround.common.run.directory import RunDirectory
from wardround.common.tasks.base import Examples
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.reception.manifest import preparation_manifest
from wardround.server.strategies import build_strategy

# Where units are protected each is dealt by itself: with seed 2 all hospitals train and test.
BASE = "[federation]\nrounds = 1\nseed = 2\nmin_clients = 3\n[data]\ntest_fraction = 0.25\n"
MASKED = "[secure_aggregation]\nenabled = true\nmin_cohort = 2\nthreshold = 0.5\n"
STEP = "[training]\nlocal_steps = 1\n"


def private(unit: str, noise: str, clipping: str) -> str:
    text = f"[privacy]\nunit = '{unit}'\nnoise = '{noise}'\nclipping = '{clipping}'\n"
    text += "noise_multiplier = 1.0\n" + ("size_noise = 0.5\n" if unit != "hospital" else "")
    return text + (STEP if unit != "hospital" and noise != "local" else "")


STRATEGIES = {
    "": "",
    "norm": "",
    "personal norm": "[strategy]\npersonal_layers = ['1.*']\n",
    "fedprox": "[strategy]\nname = 'fedprox'\nproximal_mu = 0.1\n",
    "scaffold": "[strategy]\nname = 'scaffold'\n",
    "fednova": "[strategy]\nname = 'fednova'\n",
    "feddyn": "[strategy]\nname = 'feddyn'\n",
    "fedbn norm": "[strategy]\nname = 'fedbn'\n",
    "fedadam": "[strategy]\nname = 'fedadam'\n",
}
MODES = {f"plain {name}": text for name, text in STRATEGIES.items()}
MODES["plain krum"] = "[strategy]\nname = 'krum'\nnum_malicious_nodes = 0\n"
MODES |= {f"masked {name}": MASKED + text for name, text in STRATEGIES.items()}
MODES["masked scaffold"] += STEP  # a sum of two is opened, and two equations would solve it
MODES["masked 16"] = MASKED + "bits = 16\n"
for unit in ("example", "patient", "hospital"):
    for noise in ("local", "distributed", "central"):
        for clipping in ("flat", "adaptive"):
            table = private(unit, noise, clipping)
            MODES[f"masked {unit} {noise} {clipping}"] = MASKED + table
            if noise != "distributed":
                MODES[f"plain {unit} {noise} {clipping}"] = table
for name in ("scaffold", "feddyn", "fednova"):
    for place, start in (("plain", ""), ("masked", MASKED)):
        text = start + private("example", "local", "flat") + STRATEGIES[name]
        MODES[f"{place} example {name}"] = text


@dataclass
class Gated:
    """Wraps a client app in a gate, as a hospital's process does."""

    first: Manifest
    second: Manifest
    replies: list[tuple[str, RecordDict]] = field(default_factory=list)
    requests: list[tuple[str, RecordDict]] = field(default_factory=list)
    used: set[tuple[str, str, str]] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)

    def __call__(self, app: Any) -> Any:
        gate = Gate(self.first)

        def answer(message: Any, context: Any) -> Any:
            nonlocal gate
            kind = message.metadata.message_type
            if kind in (m.TRAIN, m.EVALUATE):
                gate = Gate(self.second)
            gate.may_begin(kind, message.content)
            reply = app(message, context)
            assert not reply.has_error(), reply.error.reason
            leaves = gate.check(kind, reply.content)
            self.used |= {leaf.place for leaf in leaves}
            self.kinds[kind] = summary(leaves)
            self.replies.append((kind, reply.content))
            self.requests.append((kind, message.content))
            return reply

        return answer


@pytest.fixture
def run_gated(settings, federate, line, tmp_path) -> Callable[[str], Gated]:
    """Run a mode's federation of three hospitals with a gate around it."""

    class Task(line):
        phases = 1

        def statistics(self, train: Examples, phase: int, totals: Any) -> Any:
            return {"rows": np.array([float(len(train))]), "square": np.ones((2, 2))}

        def patients(self, raw: Examples) -> Any:
            rows = np.rint((raw.inputs[:, 0].numpy() - 0.5) * 7).astype(int)  # of the whole shard
            return (rows // 2).astype(str)

    def run(mode: str) -> Gated:
        config: Config = settings(BASE + MODES[mode])
        task = Task(norm="norm" in mode, start=0.5)
        shards = {
            name: Examples(torch.linspace(0.5, 1.5, 8).view(-1, 1), torch.ones(8) * number)
            for number, name in enumerate("abc")
        }
        keys = {name: Identity.generate().public for name in shards}
        described = Description(
            config.federation.name,
            1,
            "localhost:8443",
            shared_toml(config),
            Identity.generate().public,
            keys,
            (),
            "2026-01-01T00:00:00+00:00",
            "2026-01-31T00:00:00+00:00",
        )
        directory = RunDirectory.create(tmp_path, "gated", config.to_toml())
        first = preparation_manifest(config, task, described, directory.path.name)
        gated = Gated(first, _with_model(first, config, task))
        federate(config, shards, task, wrap=gated, directory=directory)
        return gated

    return run


def _with_model(first: Manifest, config: Config, task: Any) -> Manifest:
    model = build_model(task, {}, config.federation.seed)
    entries = entries_of(config, model)
    layout = entries.only(layout_of(model_arrays(model)), *SHARED)
    trainable = entries.parameters
    ours = build_strategy(config).ours
    records = ours.reply_records({k: layout[k] for k in trainable}) if ours else {}
    return stage_two(first, layout, trainable, records)


@pytest.mark.parametrize("mode", MODES)
def test_every_reply_of_every_mode_passes_and_every_leaf_is_used(run_gated, mode: str) -> None:
    gated = run_gated(mode)
    first, second = gated.first, gated.second
    assert second.continues(first)
    # the manifest lists exactly what leaves, not more: sums have a name each that no leaf knows
    listed = {leaf.place for leaf in second.leaves if not leaf.inside}
    assert gated.used == listed
    place = m.SECAGG if mode.startswith("masked") else m.ARRAYS
    assert {kind for kind, content in gated.replies if place in content} >= {m.TRAIN, m.EVALUATE}
    noised = any(f" {noise} " in mode for noise in ("local", "distributed")) or "example" in mode
    noised = noised and "central" not in mode
    figures = noised and "hospital" not in mode  # whose rows no noise hides in a figure
    if mode.startswith("masked"):
        assert gated.kinds[m.STATISTICS] == "masked"
        assert gated.kinds[m.EVALUATE] == ("masked+noised" if figures else "masked")
        assert gated.kinds[m.TRAIN] == ("masked+noised" if noised else "masked")
    else:
        assert gated.kinds[m.STATISTICS] == "none"
        assert gated.kinds[m.EVALUATE] == ("noised" if figures else "none")
        assert gated.kinds[m.TRAIN] == ("noised" if noised else "none")


# --- replies that hold something else -----------------------------------------------------------
def copy(content: RecordDict) -> RecordDict:
    return RecordDict({name: type(record)(dict(record)) for name, record in content.items()})


Mutation = tuple[str, Callable[[RecordDict], Any]]


def mutations(kind: str, content: RecordDict, second: Manifest) -> Iterator[Mutation]:
    """(what the refusal must name, change) for one reply."""
    array = Array(np.array([66.0]))
    for extra in (
        ArrayRecord({"age": array}),
        MetricRecord({"age": 66.0}),
        ConfigRecord({"age": "66"}),
        ConfigRecord(),
        MetricRecord(),
        ArrayRecord(),
    ):
        yield "patients", lambda c, extra=extra: c.__setitem__("patients", extra)
    named = {leaf.place for leaf in second.leaves if leaf.name != ANY}
    for name, record in content.items():
        if isinstance(record, ConfigRecord):
            yield f"{name}/age", lambda c: c[name].__setitem__("age", "66")
            yield f"{name}/age", lambda c: c[name].__setitem__("age", b"66")
        elif isinstance(record, MetricRecord):
            yield f"{name}/age", lambda c: c[name].__setitem__("age", 66)
            yield f"{name}/", lambda c: c.__setitem__(name, ConfigRecord(dict(c[name])))
        for key, value in record.items():
            where = f"{name}/{key}"
            if isinstance(value, Array):
                yield from array_mutations(name, key, value, (kind, name, key) in named)
            else:
                yield from value_mutations(name, key, value)
                if not isinstance(value, bool):
                    yield where, lambda c: c[name].__setitem__(key, [1.5, 2.5])


def array_mutations(name: str, key: str, array: Array, named: bool) -> Iterator[Mutation]:
    where, value = f"{name}/{key}", array.numpy()

    def put(new: Array) -> Callable[[RecordDict], Any]:
        return lambda c: c[name].__setitem__(key, new)

    other = np.float16 if value.dtype != np.float16 else np.float32
    yield where, put(Array(value.astype(other)))
    yield where, put(Array(array.dtype, array.shape, array.stype, array.data + b"66"))
    yield where, put(Array(array.dtype, array.shape, array.stype, array.data[:-1]))
    yield where, put(Array(array.dtype, array.shape, "torch.tensor", array.data))
    yield where, put(Array(array.dtype, (*array.shape, 2), array.stype, array.data))
    hidden = array.data.replace(b" \n", b"6\n", 1)
    if hidden != array.data:
        yield where, put(Array(array.dtype, array.shape, array.stype, hidden))
    if named:
        yield where, put(Array(np.stack([value, value])))
        yield f"{name}/age", lambda c: c[name].__setitem__("age", c[name].pop(key))
        yield f"{name}/age", lambda c: c[name].__setitem__("age", Array(np.ones(1, np.float32)))
    else:
        long = "x" * 257
        yield f"{name}/xxx", lambda c: c[name].__setitem__(long, Array(np.ones(1)))
        yield "printable", lambda c: c[name].__setitem__("a\nb", Array(np.ones(1)))


def value_mutations(name: str, key: str, value: Any) -> Iterator[Mutation]:
    where = f"{name}/{key}"

    def put(new: Any) -> Callable[[RecordDict], Any]:
        return lambda c: c[name].__setitem__(key, new)

    if isinstance(value, bytes):
        yield where, put(value.hex())
        if key == m.CLAIM:
            yield where, put(value + bytes(2048))
        else:
            yield where, put(value + b"6")
            yield where, put(value[:-1])
    elif isinstance(value, str):
        yield where, put(value + "x" * 64)
        yield where, put(value + "\n66")
        yield where, put(value.encode())
    elif isinstance(value, list):
        yield where, put(["66"] * 21)
        yield where, put(["x" * 2001])
        yield where, put("66")
    elif isinstance(value, int):
        yield where, put(float(value))
    else:
        yield where, put(int(value))


MUTATED = [
    "plain ",
    "plain scaffold",
    "plain personal norm",
    "plain hospital local adaptive",
    "masked ",
    "masked scaffold",
    "masked 16",
    "masked example distributed adaptive",
]


@pytest.mark.parametrize("mode", MUTATED)
def test_a_reply_with_anything_else_is_refused_by_name(run_gated, mode: str) -> None:
    gated = run_gated(mode)
    gate, count = Gate(gated.second), 0
    for kind, content in {kind: (kind, content) for kind, content in gated.replies}.values():
        gate.check(kind, copy(content))
        for names, change in mutations(kind, content, gated.second):
            changed = copy(content)
            change(changed)
            with pytest.raises(PolicyRefused) as refused:
                gate.check(kind, changed)
            line = str(refused.value)
            assert names in line and kind in line, (names, line)
            assert "\n" not in line and len(line) < 400
            count += 1
    assert count > 80


def test_plain_where_masked_was_promised_and_the_reverse(run_gated) -> None:
    plain, masked = run_gated("plain "), run_gated("masked ")
    for kind, content in plain.replies:
        if kind != m.DESCRIBE:
            names = "metrics" if kind == m.TRAIN and m.METRICS in content else "arrays"
            with pytest.raises(PolicyRefused, match="promised inside the masked|isn't in") as error:
                Gate(masked.second).check(kind, content)
            assert names in str(error.value) or "arrays" in str(error.value)
    arrays = next(content for kind, content in plain.replies if kind == m.TRAIN)[m.ARRAYS]
    with pytest.raises(PolicyRefused, match="'arrays/weight' of train was promised inside"):
        Gate(masked.second).check(m.TRAIN, RecordDict({m.ARRAYS: arrays}))
    for kind, content in masked.replies:
        if kind != m.DESCRIBE:
            with pytest.raises(PolicyRefused):
                Gate(plain.second).check(kind, content)


def test_warnings_leave_only_where_the_server_sees_single_hospitals(run_gated) -> None:
    for mode, allowed in (
        ("plain ", True),
        ("masked ", False),
        ("plain hospital local flat", False),
    ):
        gated = run_gated(mode)
        content = copy(next(content for kind, content in gated.replies if kind == m.DESCRIBE))
        content["describe"]["warnings"] = ["a: column 'x' is mostly missing"]
        if allowed:
            Gate(gated.first).check(m.DESCRIBE, content)
        else:
            with pytest.raises(PolicyRefused, match="describe/warnings"):
                Gate(gated.first).check(m.DESCRIBE, content)


def test_of_its_machine_a_hospital_tells_one_short_word(run_gated) -> None:
    gated = run_gated("masked ")
    content = copy(next(content for kind, content in gated.replies if kind == m.DESCRIBE))
    assert content["describe"]["device"] == "cpu"
    content["describe"]["device"] = "NVIDIA H200"
    with pytest.raises(PolicyRefused, match="describe/device"):
        Gate(gated.first).check(m.DESCRIBE, content)


# --- when, and for what -------------------------------------------------------------------------
def test_before_a_manifest_nothing_leaves_and_before_the_second_no_model(run_gated) -> None:
    gated = run_gated("masked ")
    for kind, content in gated.replies:
        with pytest.raises(PolicyRefused, match="no run manifest was accepted"):
            Gate().check(kind, content)
        if kind in (m.TRAIN, m.EVALUATE):
            with pytest.raises(PolicyRefused, match="the second one first"):
                Gate(gated.first).check(kind, content)
        else:
            Gate(gated.first).check(kind, content)
    with pytest.raises(PolicyRefused, match=r"has no query\.patients"):
        Gate(gated.second).check("query.patients", RecordDict())
    assert Gate().error("a\nb\x00" + "c" * 999).startswith("a b c")
    assert len(Gate.error("c" * 999)) == 300


def test_more_sums_than_any_task_has_do_not_leave(run_gated) -> None:
    gate, one = Gate(run_gated("plain ").second), Array(np.ones(1))
    most = RecordDict({m.ARRAYS: ArrayRecord({f"s{number}": one for number in range(100_000)})})
    assert len(gate.check(m.STATISTICS, most)) == 100_000
    most[m.ARRAYS]["another"] = one
    with pytest.raises(PolicyRefused, match="too many sums"):
        gate.check(m.STATISTICS, most)


def test_a_request_beyond_the_plan_is_not_begun(run_gated) -> None:
    """A lying server: more rounds than were accepted, another run's budget, another algorithm."""
    gated = run_gated("masked hospital local flat")
    request = next(content for kind, content in gated.requests if kind == m.TRAIN)
    gate = Gate(gated.second)
    gate.may_begin(m.TRAIN, request)
    for key, value, names in (
        (m.ROUND, 2, "server-round is 2"),
        (m.ROUND, 0, "server-round is 0"),
        (m.ROUND, "1", "server-round is '1'"),
        ("planned-rounds", 2, "planned-rounds is 2"),
        ("cohort", 4, "cohort is 4"),
        ("run", "another", "run 'another'"),
        ("algorithm", "scaffold", "algorithm 'scaffold'"),
    ):
        asked = copy(request)
        asked[m.CONFIG][key] = value
        with pytest.raises(PolicyRefused, match=names):
            gate.may_begin(m.TRAIN, asked)
    del request[m.CONFIG]
    with pytest.raises(PolicyRefused, match="no 'config' record"):
        gate.may_begin(m.TRAIN, request)


def test_noise_of_buffered_rounds_is_made_for_all_of_them(run_gated) -> None:
    """The fastest may be in each, whatever K is; with cohorts that are drawn nobody need be."""
    gated = run_gated("masked hospital local flat")
    request = next(content for kind, content in gated.requests if kind == m.TRAIN)
    asked = copy(request)
    asked[m.CONFIG]["planned-rounds"], asked[m.CONFIG]["cohort"] = 2, 1
    drawn = gated.second.model_copy(update={"rounds": 4, "cohort": 1})
    Gate(drawn).may_begin(m.TRAIN, asked)
    leaves = (*drawn.leaves, *BeginReply.leaves())
    buffered = Gate(drawn.model_copy(update={"leaves": leaves}))
    for kind in (m.TRAIN, m.BEGIN):
        with pytest.raises(PolicyRefused, match="planned-rounds is 2, .* plans 4 to 4"):
            buffered.may_begin(kind, asked)
    asked[m.CONFIG]["planned-rounds"] = 4
    buffered.may_begin(m.BEGIN, asked)
    with pytest.raises(PolicyRefused, match="has no train.begin"):
        Gate(drawn).may_begin(m.BEGIN, asked)
