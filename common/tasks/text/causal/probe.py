"""Whether a base model computes here what it computes by itself.

Families differ: some scale the scores behind their head, take no positions or read no mask of two
sides. None of that shows in an error. So a model is held against its own forward once when it is
read, on rows that have all that rows have here: two documents, one with two branches. Whatever its
family, it is taken if the numbers agree.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wardround.common.errors import TaskError
from wardround.common.tasks.text.causal.network import CausalModel
from wardround.common.tasks.text.frozen import same_weight

_AGREES = 1e-3
"""Of log-likelihoods; and this share of them."""
_PROMPTS, _ANSWERS = (4, 3), ((2, 3), (2,))


def check_form(model: Any, name: str) -> None:
    """Raise TaskError for a language model whose answers in branches and packed rows aren't as
    likely as after their prompts alone. ``name`` is what messages call it."""
    body, head = model.base_model, model.get_output_embeddings()
    lone = None if head is None or same_weight(head, body.get_input_embeddings()) else head
    size = int(body.get_input_embeddings().weight.shape[0])
    # numbers that are spread over the vocabulary, none of which stands twice
    ids = iter(torch.linspace(0, size - 1, 16).long().tolist())
    try:
        with torch.no_grad():
            planes, wanted = _rows(model, ids)
            found = CausalModel(body, lone, None)(planes[None])[0, :, 0]
    except Exception as error:  # a family may refuse in any way what is given here
        raise TaskError(
            f"{name}: a language model of a family ({_family(model)}) that can't be given rows "
            f"with choices ({type(error).__name__}); take another base model"
        ) from None
    scored = planes[3] > 0
    if not torch.isfinite(wanted).all():
        raise TaskError(
            f"{name}: by its weights what it says is no finite number",
            mend="get its files again, or take another base model",
        )
    if not torch.allclose(found[scored], wanted[scored], rtol=_AGREES, atol=_AGREES):
        raise TaskError(
            f"{name}: a language model of a family ({_family(model)}) whose scores, masks or "
            "positions aren't those of most; take another base model"
        )


def _rows(model: Any, ids: Any) -> tuple[Tensor, Tensor]:
    """Planes 4 x S of one row, and S log-likelihoods, each answer after its prompt alone."""
    planes: list[list[int]] = []
    wanted: list[float] = []
    for document, (length, answers) in enumerate(zip(_PROMPTS, _ANSWERS, strict=True), start=1):
        prompt = [next(ids) for _ in range(length)]
        planes += [[one, at, document, 0] for at, one in enumerate(prompt)]
        wanted += [0.0] * length
        for branch, more in enumerate(answers, start=1):
            answer = [next(ids) for _ in range(more)]
            planes += [[one, length + at, document, branch] for at, one in enumerate(answer)]
            scores = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float()
            known = F.log_softmax(scores, -1)[length - 1 : length + more - 1]
            wanted += known.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()
    return torch.tensor(planes).T.contiguous(), torch.tensor(wanted)


def _family(model: Any) -> str:
    return str(getattr(model.config, "model_type", "unknown"))
