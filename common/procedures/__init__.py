"""Procedures: what hospitals are asked other than to train, as sums in steps.

    procedure   what one is: its worker at the hospital, its driver at the server, in one class
    known       the ones there are, by name
    finished    a finished model and rows: what goes together, and what the model says of them
    describe    what the data of all hospitals hold
    evaluate    figures of a finished model
    calibrate   what corrects it
    monitor     what it meets
    statistics  analyses of the data, many at once
    trees       boosted trees and forests
    hiding      what may be shown of sums
    words       counts that travel in few bytes
    carrying    steps that carry a state

The worker's questions follow from the plan and from opened totals alone, so that each hospital
works out by itself what a step may ask. A procedure talks to nobody, and what it publishes is of
sums only.
"""

from wardround.common.config.load import Config
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Procedure,
    Shapes,
)
from wardround.common.procedures.words import Words, fitting_bits

__all__ = [
    "Asked",
    "Config",
    "Earlier",
    "FinishedModel",
    "Parts",
    "Procedure",
    "Shapes",
    "Words",
    "fitting_bits",
]
