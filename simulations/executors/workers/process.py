"""The process that is a worker of ``processes.py``.

It is a fork of the simulation, so it has its data. It is told what to do in lines of JSON over a
pipe, and finds the messages in files.
"""

from __future__ import annotations

import json
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from wardround.common.errors import reason_of
from wardround.simulations.clients import Clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.workers.orders import Done, Order
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.worker import work

GOODBYE = b"goodbye"
"""The last line to a worker."""
ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals to all processes of a terminal, blocked where a worker begins."""


def serve(connection: Connection, clients: Clients, executor: Executor, number: int) -> None:
    """Do what comes over the connection until it ends."""
    for signal_number in ENDING:
        signal.signal(signal_number, signal.SIG_IGN)  # the simulation's own process ends us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    clients.answer_always()  # who fails was decided before
    last = ("", Parcel([], []))
    while True:
        try:
            line = connection.recv_bytes()
        except (EOFError, OSError):
            line = GOODBYE
        if line == GOODBYE:
            os._exit(0)
        told = json.loads(line)
        request, reply = told.pop("request"), told.pop("reply")
        order = Order(**told)
        try:
            if last[0] != request:
                last = (request, Parcel.read(Path(request)))
            done, parcel = work(executor, clients, order, last[1])
            parcel.write(Path(reply))
        except Exception as error:  # a parcel that can't be read or written: the disk's fault
            done = Done.failed(order, reason_of(error))
            Path(reply).unlink(missing_ok=True)
        try:
            connection.send_bytes(done.to_bytes())
        except OSError:  # the simulation was killed meanwhile
            os._exit(0)
