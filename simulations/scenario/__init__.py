"""``scenario.toml``: clients that fail, come, go and take their time, on a simulated clock.

It never changes what a client that answers computes.
"""
