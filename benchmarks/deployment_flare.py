"""NVIDIA FLARE's own deployment on loopback (its "proof of concept" environment), FedAvg in numpy.

Two roles in one file, as FLARE runs a script at each client:

    .peers/flare/bin/python -m benchmarks.deployment_flare CLIENTS PARAMETERS ROUNDS

prints the seconds between a round's first task and the next one's, in FLARE's environment, which
``make bench-peers`` makes; each client adds random numbers to what it got. FLARE's environment of
this kind has certificates for its parties; servers, clients and each job are processes of their
own, as Wardround's are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = Path(".peers/flare/bin/python")
LOG = "WARDROUND_FLARE_LOG"
LIMIT_S = 240


def flare_rounds(clients: int, parameters: int, rounds: int) -> list[float] | None:
    """Seconds of each round but the first; None where FLARE isn't installed, or didn't end."""
    if not PYTHON.exists():
        return None
    python = PYTHON.absolute()
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    command = [str(python), "-m", "benchmarks.deployment_flare"]
    try:
        done = subprocess.run(
            [*command, str(clients), str(parameters), str(rounds)],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S + 60,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        print(done.stderr[-400:], file=sys.stderr)
        return None
    seconds: list[float] = json.loads(lines[-1].removeprefix("RESULT "))
    return seconds or None


def coordinate(clients: int, parameters: int, rounds: int) -> None:
    """Start all of FLARE's processes, run the job, print."""
    import numpy as np
    from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
    from nvflare.recipe.poc_env import PocEnv

    folder = Path(tempfile.mkdtemp())
    log = folder / "tasks.jsonl"
    os.environ[LOG] = str(log)
    os.environ["NVFLARE_POC_WORKSPACE"] = str(folder / "poc")
    start = folder / "start.npy"
    np.save(start, np.zeros(parameters, np.float32))
    script = folder / "flare_client.py"
    shutil.copy(__file__, script)
    os.chdir(folder)
    recipe = NumpyFedAvgRecipe(
        name="peer",
        initial_ckpt=str(start),
        min_clients=clients,
        num_rounds=rounds + 1,
        train_script=str(script),
    )
    environment = PocEnv(num_clients=clients)
    try:
        recipe.execute(environment).get_result(timeout=LIMIT_S)
    finally:
        environment.stop(clean_up=False)
    first: dict[int, float] = {}
    for line in log.read_text().splitlines():
        came = json.loads(line)
        number, at = came["round"], came["at"]
        first[number] = min(at, first.get(number, at))
    times = [first[number] for number in sorted(first)]
    shutil.rmtree(folder, ignore_errors=True)
    print("RESULT " + json.dumps([b - a for a, b in zip(times, times[1:], strict=False)]))


def answer() -> None:
    """A client of FLARE: what came, and random numbers on it."""
    import numpy as np
    import nvflare.client as flare

    flare.init()
    generator = np.random.default_rng(os.getpid())
    while flare.is_running():
        message = flare.receive()
        if message is None:
            break
        with Path(os.environ[LOG]).open("a") as log:
            log.write(json.dumps({"round": message.current_round, "at": time.time()}) + "\n")
        for value in message.params.values():
            value += generator.standard_normal(value.shape, dtype=np.float32)
        steps = {"NUM_STEPS_CURRENT_ROUND": 1}
        flare.send(flare.FLModel(params=message.params, metrics={"loss": 0.0}, meta=steps))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        coordinate(*(int(text) for text in sys.argv[1:]))
    else:
        answer()
