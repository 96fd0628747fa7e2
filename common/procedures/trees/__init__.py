"""Trees over hospitals: boosted rounds and random forests, by sums alone.

    calendar    which sum is which step
    agreeing    columns, categories, bins and target, as hospitals agree on them
    agreed      what they agreed on
    rows        a hospital's rows, as trees take them
    finished    the trees so far
    procedure   the steps
    noised      the steps with ``[privacy]``: other trees
    result      what is published; ``page`` shows it

The arithmetic is in ``common/trees``. No row, and no sum of one hospital, leaves it otherwise than
as ``procedure`` says.
"""
