"""A file of trees is read as what it may be: anybody's. Only numbers come out of it.

Sizes are held to limits before anything is made of them, every list to the number of nodes, every
node to the tree that it stands in (``codec.check_tree``). What xgboost can write and this can't
evaluate (linear boosters, dropout, vector leaves, other losses) is refused by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ConfigError, ModelRefused
from wardround.common.trees.codec import MOST_NODES, MOST_TREES, check_tree
from wardround.common.trees.cox import Cox
from wardround.common.trees.features import MOST_LEVELS, Feature
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Binary, Multi, Objective, Squared
from wardround.common.trees.tree import NONE, Tree
from wardround.common.trees.xgboost_file import ATTRIBUTE, FORMAT, ROOT_PARENT

Values = dict[str, Any]
MOST_BYTES = 1 << 28
MOST_DEPTH = 64
MOST_CLASSES = 1000
MOST_FEATURES = 100_000
_LARGEST_WHOLE = 2**31
_MEND = "have the model made again"


def read_file(path: Path) -> tuple[TreeModel, Values]:
    """The model in a file, and what ``text_of`` was given with it. Raises ModelRefused."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelRefused(f"is larger than {MOST_BYTES >> 20} MiB", who=str(path))
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ModelRefused("isn't there", who=str(path), mend="name a run's model.json") from None
    except (OSError, UnicodeDecodeError):
        raise ModelRefused("can't be read", who=str(path), mend=_MEND) from None
    try:
        return read_text(text)
    except ModelRefused as error:
        raise ModelRefused(error.what, who=str(path), mend=error.mend) from None


def read_text(text: str) -> tuple[TreeModel, Values]:
    """The same of the file's text."""
    learner = _part(_parsed(text), "learner")
    features, more = _features(learner)
    model = _part(_part(learner, "gradient_booster"), "model")
    name = _part(learner, "gradient_booster").get("name")
    if name != "gbtree":
        raise _refused(f"is a booster of the kind '{name!s:.30}', no trees")
    objective = _objective(learner)
    settings = _part(model, "gbtree_model_param")
    parallel = _number(settings, "num_parallel_tree", 1, MOST_TREES)
    trees = _list(model, "trees", MOST_TREES)
    each_round = objective.outputs * parallel
    if len(trees) != _number(settings, "num_trees", 0, MOST_TREES) or len(trees) % each_round:
        raise _refused("has another number of trees than it says")
    outputs = [number % each_round // parallel for number in range(len(trees))]
    if _list(model, "tree_info", MOST_TREES) != outputs:
        raise _refused("has trees in an order that isn't round after round")
    found = tuple(_tree(one, features) for one in trees)
    return TreeModel(features, objective, found, parallel), more


def _parsed(text: str) -> Values:
    if len(text) > MOST_BYTES:
        raise _refused(f"is larger than {MOST_BYTES >> 20} MiB")
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _refused("is no JSON of a model of trees") from None
    if not isinstance(found, dict):
        raise _refused("is no model of trees")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _features(learner: Values) -> tuple[tuple[Feature, ...], Values]:
    """The features as ``text_of`` had them; of a file that xgboost wrote, as it names them."""
    count = _number(_part(learner, "learner_model_param"), "num_feature", 1, MOST_FEATURES)
    attributes, more = _part(learner, "attributes"), Values()
    if ATTRIBUTE in attributes:
        own = FORMAT.read(_parsed(str(attributes[ATTRIBUTE])), ModelRefused)
        found, more = [_feature(one) for one in _list(own, "features", count)], _part(own, "more")
    else:
        names = _list(learner, "feature_names", count) or [f"f{place}" for place in range(count)]
        kinds = _list(learner, "feature_types", count) or ["float"] * count
        if len(kinds) != len(names):
            raise _refused("has another number of features than it says")
        codes = tuple(map(str, range(MOST_LEVELS)))
        found = [
            Feature(str(name), codes if kind == "c" else None)
            for name, kind in zip(names, kinds, strict=True)
        ]
    if len(found) != count or len({one.name for one in found}) != count:
        raise _refused("has another number of features than it says, or two of one name")
    return tuple(found), more


def _feature(stored: Any) -> Feature:
    sound = isinstance(stored, dict) and stored.keys() == {"name", "levels", "monotone"}
    if not sound or not isinstance(stored["name"], str) or stored["monotone"] not in (-1, 0, 1):
        raise _refused("has a feature without name or kind")
    levels = stored["levels"]
    if levels is not None:
        if not isinstance(levels, list) or not all(isinstance(one, str) for one in levels):
            raise _refused("has a feature whose categories are no texts")
        levels = tuple(levels)
    try:
        return Feature(stored["name"], levels, int(stored["monotone"]))
    except ConfigError as error:
        raise _refused(error.what) from None


def _objective(learner: Values) -> Objective:
    name = _part(learner, "objective").get("name")
    settings = _part(learner, "learner_model_param")
    if _number(settings, "num_target", 1, _LARGEST_WHOLE) != 1:
        raise _refused("predicts several targets")
    score = _base_score(settings)
    if name == Binary.name and 0 < score < 1:
        return Binary(score)
    if name == Multi.name:
        return Multi(_number(settings, "num_class", 2, MOST_CLASSES), score)
    if name == Squared.name:
        return Squared(score, 1.0)
    if name == Cox.name and score > 0:
        return Cox(np.empty(0, np.float32), base=score)
    raise _refused(f"minimises '{name!s:.40}' from {score:g}, which isn't evaluated here")


def _base_score(settings: Values) -> float:
    text = settings.get("base_score")
    values = str(text).strip("[]").split(",")
    try:
        scores = {float(np.float32(float(one))) for one in values}
    except (ValueError, OverflowError):
        scores = {float("nan")}
    if len(scores) != 1 or not np.isfinite(list(scores)).all():
        raise _refused("starts from no number, or from another one for each class")
    return scores.pop()


def _tree(stored: Any, features: tuple[Feature, ...]) -> Tree:
    if not isinstance(stored, dict):
        raise _refused("has a tree that is none")
    settings = _part(stored, "tree_param")
    nodes = _number(settings, "num_nodes", 1, MOST_NODES)
    if _number(settings, "num_deleted", 0, MOST_NODES):
        raise _refused("has trees with nodes that were deleted")
    if _number(settings, "size_leaf_vector", 0, _LARGEST_WHOLE) > 1:
        raise _refused("has leaves of several numbers")
    whole = {
        name: _whole(stored, key, nodes)
        for name, key in (
            ("left", "left_children"),
            ("right", "right_children"),
            ("feature", "split_indices"),
        )
    }
    parent = _whole(stored, "parents", nodes)
    default = _whole(stored, "default_left", nodes)
    kinds = _whole(stored, "split_type", nodes)
    tree = Tree(
        **whole,
        parent=np.where(parent == ROOT_PARENT, NONE, parent).astype(np.int32),
        value=_numbers(stored, "split_conditions", nodes),
        default_left=default != 0,
        gain=_numbers(stored, "loss_changes", nodes),
        hessian=_numbers(stored, "sum_hessian", nodes),
        weight=_numbers(stored, "base_weights", nodes),
        categories=_categories(stored, nodes),
    )
    check_tree(tree, features, MOST_DEPTH, ModelRefused)
    inner = tree.left != NONE
    if not np.isin(default, (0, 1)).all() or set(np.flatnonzero((kinds != 0) & inner)) != set(
        tree.categories
    ):
        raise _refused("has a split that is neither by a number nor by categories")
    return tree


def _categories(stored: Values, nodes: int) -> dict[int, tuple[int, ...]]:
    right = _list(stored, "categories", nodes * MOST_LEVELS)
    lists = [_list(stored, f"categories_{name}", nodes) for name in ("nodes", "segments", "sizes")]
    if len({len(one) for one in lists}) != 1 or not all(
        _is_whole(one, 0, _LARGEST_WHOLE) for part in (right, *lists) for one in part
    ):
        raise _refused("has categories that are no whole numbers")
    found = dict[int, tuple[int, ...]]()
    for node, start, size in zip(*lists, strict=True):
        if start + size > len(right) or node in found:
            raise _refused("has categories of no node")
        found[node] = tuple(right[start : start + size])
    return found


def _whole(stored: Values, key: str, count: int) -> NDArray[np.int32]:
    found = _list(stored, key, count)
    if len(found) != count or not all(
        _is_whole(one, -1, _LARGEST_WHOLE) or type(one) is bool for one in found
    ):
        raise _refused(f"has no whole numbers of all nodes in '{key}'")
    return np.array(found, np.int32)


def _numbers(stored: Values, key: str, count: int) -> NDArray[np.float32]:
    found = _list(stored, key, count)
    if len(found) != count or not all(type(one) in (int, float) for one in found):
        raise _refused(f"has no numbers of all nodes in '{key}'")
    try:
        with np.errstate(over="ignore"):
            return np.array(found, np.float64).astype(np.float32)
    except OverflowError:
        raise _refused(f"has a number in '{key}' that is none of a model") from None


def _part(stored: Values, key: str) -> Values:
    found = stored.get(key)
    if not isinstance(found, dict):
        raise _refused(f"has no '{key}'")
    return found


def _list(stored: Values, key: str, most: int) -> list[Any]:
    found = stored.get(key)
    if not isinstance(found, list) or len(found) > most:
        raise _refused(f"has no '{key}', or too much of it")
    return found


def _number(stored: Values, key: str, least: int, most: int) -> int:
    """Whole numbers stand as texts in xgboost's parameters."""
    text = str(stored.get(key, ""))[:20]
    value = int(text) if text.isascii() and text.isdigit() else -1
    if not least <= value <= most:
        raise _refused(f"has no '{key}' between {least} and {most}")
    return value


def _is_whole(value: Any, least: int, below: int) -> bool:
    return type(value) is int and least <= value < below


def _refused(what: str) -> ModelRefused:
    return ModelRefused(f"{what}", mend=_MEND)
