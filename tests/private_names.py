"""Private names of the product that tests reach for, and why no public one does.

``tests/test_private_names.py`` holds that nothing else is used, and that all of these are.
"""

from __future__ import annotations

_CUT = "what a limit cuts off is tested with small numbers; no user sets it"
_LEFT = "that nothing is left behind has no public sight: the object has let go of it"
_SECRET = "secrets that nobody may read: the test knows them, to find them nowhere else"
_FIELDS = "a message's fields in the order of the bytes, which every test of the format walks"

REASONS: dict[str, dict[str, str]] = {
    "client/gradients/test_edges.py": {
        "_forward_pre_hooks": "torch's: a model is left without hooks of ours",
        "_backward_hooks": "torch's: as _forward_pre_hooks",
    },
    "client/gradients/test_engines.py": {
        "_backward_hooks": "torch's: a model is left without hooks of ours",
    },
    "client/privacy/test_ledger.py": {
        "_BUSY_S": _CUT,
        "_connection": "SQLite's own limit of pages stands for a full disk",
    },
    "client/serving/test_counting.py": {
        "_column": "one column as it is counted: no request's form holds infinity"
    },
    "client/site/test_ledger_of_kits.py": {"_PATIENCE_S": "nobody waits for a server in a test"},
    "client/researcher/test_network.py": {"_repr_html_": "what notebooks call to show an object"},
    "client/sources/sql/test_postgresql.py": {"_BLOCK_BYTES": _CUT},
    "client/site/test_enroll.py": {"_proof": "a forged request needs the bytes that are signed"},
    "client/training/test_distillation.py": {
        "_model": "whether the teacher shares frozen parameters shows in its copy only"
    },
    "client/training/test_distributed.py": {
        "_team": "processes are killed and counted; in use nobody knows that there are any",
        "_processes": "as _team",
        "_folder": "as _team: who may read what they exchange",
    },
    "common/settings/test_declared.py": {"_allowed": "one rule, without a plan around it"},
    "common/privacy/test_noise.py": {
        "_table": "64 bits of a distribution are seen in its table, in no number of draws",
        "_decompose": "its bounds are a theorem's conditions",
        "_LARGEST_TABLE": "as _decompose",
        "_OPEN": "marks what 16 bits leave open in a table",
        "_PIECE": "draws are made piece by piece of the stream",
    },
    "common/process/test_main.py": {
        "_load": "a package that isn't installed, in one where all are"
    },
    "common/secagg/test_keys.py": {"_key_polynomial": _SECRET, "_self_polynomial": _SECRET},
    "common/secagg/test_messages.py": {"_SPEC": _FIELDS},
    "common/secagg/test_ring.py": {
        "_add_range": "which thread takes which part",
        "_PIECE_BYTES": _CUT,
        "_ZEROS": _CUT,
        "_WORTH_A_THREAD": _CUT,
    },
    "common/secagg/test_vectors.py": {"_SPEC": _FIELDS},
    "common/tasks/text/test_encoder.py": {
        "_kept": "a cache of the process, emptied so that a test begins as a process does",
        "_tokenizer": "as _kept",
    },
    "common/tasks/data/test_table.py": {
        "_texts": "a column's texts before they are cells of a kind, of both ways of reading"
    },
    "common/transport/test_frames.py": {"_KINDS": "the order of frames is the protocol"},
    "common/transport/test_mailbox.py": {
        "_AT_ONCE_BYTES": _CUT,
        "_FIRST_CHUNK_BYTES": _CUT,
        "_MOST_OPEN": _CUT,
        "_CHUNKS_ON_WAY": _CUT,
        "_chunk_bytes": "a size that follows the link's speed, set without waiting for one",
        "_outgoing": _LEFT,
        "_control": _LEFT,
    },
    "deployment/zygote.py": {
        "_template": "each process compiles it for its first report, as long as a round takes",
        "_forkserver": "Python's own: it has no way to say which server is there already",
        "_forkserver_address": "as _forkserver",
        "_forkserver_alive_fd": "as _forkserver",
    },
    "deployment/behaviours.py": {"_messenger": "a server that lies speaks through its own half"},
    "integration/kill_points.py": {"_template": "as deployment/zygote.py's"},
    "integration/test_kill_unmask.py": {
        "_read_head": "a journal that lies is written as a whole one is",
        "_read_vector": "as _read_head",
        "_write": "as _read_head",
    },
    "secagg/driver.py": {"_vector": "the sum bit for bit; what is handed out is float64"},
    "secagg/test_mutations.py": {"_vector": "as in the driver"},
    "secagg/test_protocol.py": {
        "_vector": "as in the driver",
        "_shares": "what a server that keeps everything would know",
        "_context": "as _shares",
    },
    "secagg/test_secrets.py": {"_key_polynomial": _SECRET, "_self_polynomial": _SECRET},
    "server/provision/test_kits.py": {"_KIT_FILES": "a kit holds these files and no other"},
    "server/rounds/test_commits.py": {
        "_is_due": "when the disk is asked, decided by the test instead of by a clock",
        "_join": "as _is_due: what the disk is asked, it has confirmed here",
        "_working": "the thread whose error is still to be told",
        "_thread": "as _working",
    },
    "server/secagg/test_journal.py": {
        "_read_head": "the memory that one reading takes, without the rest of a start",
        "_read_vector": "as _read_head",
        "_CHUNK_BYTES": "as _read_head: the bound on that memory",
    },
    "server/transport/test_links.py": {"_outgoing": _LEFT},
    "simulations/executors/test_auto.py": {"_time": "nothing is timed in a test: times are given"},
    "simulations/executors/test_processes.py": {
        "_tasks": "processes and files that only the executor knows of, gone when it is closed",
        "_folder": "as _tasks",
        "_workers": "as _tasks",
    },
    "simulations/privacy/test_attacks.py": {"_ROWS": _CUT},
    "simulations/python/test_shown.py": {"_repr_html_": "what notebooks call to show an object"},
    "simulations/run/test_many_hospitals.py": {"_TOLD_EVERY": _CUT},
    "simulations/scenario/test_scenario.py": {
        "_clients": "draws are compared with their distribution, thousands at once",
        "_speed": "as _clients",
        "_latency": "as _clients",
        "_bytes": "a message's size, counted by hand; a run shows it only within a duration",
    },
}
"""File below ``tests/`` to private name to reason."""
