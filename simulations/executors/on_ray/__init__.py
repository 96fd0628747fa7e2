"""Clients spread over a Ray cluster, for simulations that outgrow one machine.

    pool      the actors: started, given tasks, replaced when they are lost
    actor     one of them, which makes the hospitals for itself, by the ``recipe`` it is given
    asked     what only they know, as they alone read the shards
    checks    what can't be run so

Tasks are those of ``workers``, so the model is the processes', bit for bit. Nothing here imports
Ray before a simulation asks for it.
"""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.simulations.executors.on_ray.asked import AskedEvaluation, AskedExtents
from wardround.simulations.executors.on_ray.checks import check_ray
from wardround.simulations.executors.on_ray.pool import RayPool
from wardround.simulations.executors.on_ray.recipe import Recipe
from wardround.simulations.executors.workers.spread import Spread, SpreadTraining
from wardround.simulations.executors.workers.tasks import Tasks

__all__ = ["RAY", "Recipe", "check_ray", "on_ray"]

RAY = "ray"


def on_ray(recipe: Recipe, config: Config) -> Spread:
    """The executor that runs clients in actors.

    config : the recipe's
    """
    tasks = Tasks(RayPool(recipe, config))
    training = SpreadTraining(tasks, AskedExtents(tasks))
    return Spread(RAY, training, evaluate=AskedEvaluation(tasks).evaluate, kinds=None)
