"""``describe``: what the data of all hospitals hold, before a study, in sums alone.

    columns    what is described, and how a hospital's cells are counted
    procedure  the steps, and what is summed in each
    noised     the same in one step, with noise
    figures    from totals to what is shown
    page       that, for people

Where quantiles lie is in ``procedures/spread.py``, what may be shown in ``procedures/hiding``.

No smallest or largest value is ever asked for, and nothing that is published is of fewer persons
than ``procedure.smallest_cell``. The server sees exact totals, small ones too, unless ``[privacy]``
puts noise on them.
"""
