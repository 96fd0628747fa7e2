"""Clients spread over workers: tasks, how they travel, and what a worker does with one.

    spread       the executor: makes tasks of messages, folds what comes back
    tasks        has tasks done by a pool of workers, in order, again where a worker dies
    worker       what a worker, wherever it is, does with a task's order
    processes    a pool of forks of the simulation (``process`` is such a fork)
    orders parcel shared_folder    what goes between them, and where it lies

The executor drives, workers work: a worker never decides who trains, and never sees what another
one gave.
"""
