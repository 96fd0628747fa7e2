"""Sums of gradients clipped per unit (example or patient) of a model.

``make_unit_gradients`` chooses the fastest form that is right for the model; see ``base`` for what
every form promises.
"""

from wardround.client.gradients.base import ClippedSum, Clipping, Loss, UnitGradients
from wardround.client.gradients.make import make_unit_gradients

__all__ = ["ClippedSum", "Clipping", "Loss", "UnitGradients", "make_unit_gradients"]
