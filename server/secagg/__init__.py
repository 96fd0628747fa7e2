"""The server's half of secure aggregation: sums of masked vectors, and what opens them.

``sum``, ``key_groups`` and ``reconstruction`` are the protocol without transport; ``gatherer`` and
what it is made of ask hospitals. It never holds one hospital's numbers.
"""
