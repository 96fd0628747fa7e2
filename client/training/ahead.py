"""What comes next is made by a thread while the present is worked on.

For inputs that are read from a file: a batch is there when it is needed, unless the disk is slower
than the model. And for noise, which takes as long to draw as a small model's gradient. One is made
ahead and no more, so memory grows by a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def made_ahead(make: Callable[[A], B], of: Iterable[A]) -> Iterator[B]:
    """``map(make, of)``, in order, the next one made meanwhile. ``of`` is gone through one step
    ahead, by whoever iterates; what ``make`` raises is raised where its result is due. The thread
    ends with the iteration, however that ends."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        coming: Future[B] | None = None
        for one in of:
            following = thread.submit(make, one)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
    finally:
        thread.shutdown(cancel_futures=True)
