"""The JSON that plain xgboost loads, 2.1 and 3: the same trees, the same predictions.

It is the form that xgboost 2 writes, which later versions read: one base score as text, and no
``cats``. What xgboost has no place for (levels of categories, names with signs that it refuses) is
a text under ``attributes``, which it keeps and doesn't read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from wardround.common.durable.versioned import Format
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Multi
from wardround.common.trees.tree import NONE, Tree

Values = dict[str, Any]
FORMAT = Format("tree model", "have the study run again")
VERSION = [2, 1, 4]
ROOT_PARENT = 2147483647
ATTRIBUTE = "wardround"
_PLAIN = str.maketrans({"[": "(", "]": ")", "<": "under "})
_LOSSES = {
    "binary:logistic": ("reg_loss_param", {"scale_pos_weight": "1"}),
    "reg:squarederror": ("reg_loss_param", {"scale_pos_weight": "1"}),
}


def text_of(model: TreeModel, attributes: Values | None = None) -> str:
    """The file's text.

    attributes : what else is kept in it, plain values
    """
    # in UTF-8: xgboost takes an escaped letter of a name for six signs, and finds no such column
    values = document(model, attributes)
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def plain_names(names: Sequence[str]) -> list[str]:
    """The names as xgboost takes them: without the signs [ ] and <, no two alike."""
    found = list[str]()
    for name in names:
        plain = name.translate(_PLAIN) or "column"
        while plain in found:
            plain += "_"
        found.append(plain)
    return found


def document(model: TreeModel, attributes: Values | None = None) -> Values:
    """The same as plain values."""
    features, outputs = model.features, model.objective.outputs
    per_round = model.trees_a_round
    own = {
        "features": [
            {
                "name": one.name,
                "levels": None if one.levels is None else list(one.levels),
                "monotone": one.monotone,
            }
            for one in features
        ],
        "more": attributes or {},
    }
    return {
        "learner": {
            "attributes": {ATTRIBUTE: json.dumps(FORMAT.seal(own), ensure_ascii=False)},
            "feature_names": plain_names([one.name for one in features]),
            "feature_types": ["float" if one.number else "c" for one in features],
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {
                        "num_parallel_tree": str(model.parallel),
                        "num_trees": str(len(model.trees)),
                    },
                    "iteration_indptr": list(range(0, len(model.trees) + 1, per_round)),
                    "tree_info": [
                        number % per_round // model.parallel for number in range(len(model.trees))
                    ],
                    "trees": [
                        _tree(number, tree, len(features))
                        for number, tree in enumerate(model.trees)
                    ],
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": _shortest(model.objective.base_score),
                "boost_from_average": "1",
                "num_class": str(outputs) if isinstance(model.objective, Multi) else "0",
                "num_feature": str(len(features)),
                "num_target": "1",
            },
            "objective": _objective(model),
        },
        "version": VERSION,
    }


def _objective(model: TreeModel) -> Values:
    name = model.objective.name
    found: Values = {"name": name}
    if name in _LOSSES:
        key, values = _LOSSES[name]
        found[key] = dict(values)
    elif isinstance(model.objective, Multi):
        found["softmax_multiclass_param"] = {"num_class": str(model.objective.classes)}
    return found


def _tree(number: int, tree: Tree, features: int) -> Values:
    leaf = tree.left == NONE
    nodes = sorted(tree.categories)
    sizes = [len(tree.categories[node]) for node in nodes]
    return {
        "base_weights": _floats(np.where(leaf, tree.value, tree.weight)),
        "categories": [one for node in nodes for one in tree.categories[node]],
        "categories_nodes": nodes,
        "categories_segments": [sum(sizes[:place]) for place in range(len(nodes))],
        "categories_sizes": sizes,
        "default_left": tree.default_left.astype(int).tolist(),
        "id": number,
        "left_children": tree.left.tolist(),
        "loss_changes": _floats(tree.gain),
        "parents": np.where(tree.parent == NONE, ROOT_PARENT, tree.parent).tolist(),
        "right_children": tree.right.tolist(),
        "split_conditions": _floats(tree.value),
        "split_indices": tree.feature.tolist(),
        "split_type": [int(node in tree.categories) for node in range(len(tree))],
        "sum_hessian": _floats(tree.hessian),
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(features),
            "num_nodes": str(len(tree)),
            "size_leaf_vector": "1",
        },
    }


def _floats(values: np.ndarray[Any, np.dtype[np.float32]]) -> list[float]:
    """In the fewest digits that read back as the same float32."""
    return [float(str(one)) for one in values]


def _shortest(value: float) -> str:
    return f"{float(str(np.float32(value))):E}" if value else "0E0"
