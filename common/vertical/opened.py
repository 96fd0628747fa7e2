"""What a regression opens, and to whom, in words: for the plan that people approve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wardround.common.settings import VerticalOptions

_RATES = ("poisson", "cox")


def opened(
    options: VerticalOptions, parties: Sequence[str], holder: str
) -> Iterator[tuple[str, str]]:
    """(who learns, what), a line each. parties : those with columns, ordered; holder : of the
    outcome, one of them."""
    everybody = (
        f"{', '.join(parties)}: how many persons are linked; which columns are left out, being "
        f"constant or with a count of fewer than {options.smallest_cell}"
    )
    if options.model not in _RATES:
        told = "; sums of products of all columns and the outcome over these persons"
        if options.model == "logistic":
            told += (
                f"; the gradient at each of at most {options.iterations} points, at the last one "
                "the loss and the curvature"
            )
        yield "the parties learn", f"{everybody}{told}; coefficients"
        return
    told = "; columns' variances; how many events there are"
    if options.model == "cox":
        told += (
            f"; how many persons, as a power of two, are at risk in each of at most "
            f"{options.intervals} intervals of time"
        )
    told += (
        f"; the gradient at each of at most {options.iterations} points, the curvature at the "
        "first and the last, rounded to what coefficients need; coefficients"
    )
    yield "the parties learn", everybody + told
    sums = "in each interval the sum" if options.model == "cox" else "the sum"
    yield (
        "the outcome's holder learns",
        f"{holder}: at each point {sums} of all persons' hazards, rounded to some six to ten bits",
    )
    if options.model == "cox":
        teller = next(name for name in parties if name != holder)
        yield (
            "one other party learns",
            f"{teller}: sums of columns by interval, turned by a rotation that {holder} alone "
            "knows: what is left of them are their products, a part of the curvature",
        )
