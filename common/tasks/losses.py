"""Losses that torch doesn't have."""

from __future__ import annotations

import torch
from torch import Tensor


def cox_loss(risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Each patient's term of the Cox negative partial log-likelihood (Cox 1972; Breslow's ties).

    For a patient i with an event: log sum over {j: time_j >= time_i} of exp(risk_j), minus risk_i;
    0 for a censored one. The risk set is the batch's, so the terms depend on the whole batch.

    Parameters
    ----------
    risk, time, event : shape B; event is 1 where the event was seen, 0 where censored

    Returns
    -------
    tensor, shape B, in the order given

    >>> risk, time, event = torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)
    >>> [round(term, 3) for term in cox_loss(risk, time, event).tolist()]  # log 3, log 2, log 1
    [1.099, 0.693, 0.0]
    """
    # latest first, the risk set of each is all that stand before it, and one cumulative sum does
    order = torch.argsort(time, descending=True, stable=True)
    cumulative = torch.logcumsumexp(risk[order], dim=0)
    # equal times share one risk set: that of the last of them in descending order
    _, counts = torch.unique_consecutive(time[order], return_counts=True)
    last = torch.repeat_interleave(torch.cumsum(counts, 0) - 1, counts)
    terms = (cumulative[last] - risk[order]) * event[order]
    return torch.empty_like(terms).index_copy(0, order, terms)
