"""Has what a model meets changed? Histograms of inputs, scores and outcomes, compared by counts.

    field      one thing that is counted, and its places, by the model's schema alone
    counts     how many rows are in each place; counts add
    rows       a task's rows as columns, of which nothing is refused (rows_text, rows_images)
    scoring    the same with what a model says of them
    compare    whether two sets of counts are of the same rows by chance: limits for every n
    outcomes   figures with intervals, of rows whose outcomes are known
    reference  counts that others are held against, as a file
    recent     the same while a model is served: counts of rows as they come, in windows
    metrics    counts as Prometheus metrics, and back

Nothing here holds, returns or writes a row. Which places there are follows from ``schema.json``, so
counts of any hospital, day or program go together.
"""
