"""``simulate()``: a whole federation on one machine, its baselines, and what it leaves behind.

It never has rules of its own: hospitals and server are those that are deployed.
"""
