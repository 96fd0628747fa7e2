"""A hospital's half of secure aggregation: keys, masks, and what it refuses to do for a server.

``party`` is the protocol as a state machine without transport; ``masking`` says which message of
the app does what. It never opens a mask of a hospital whose upload counts.
"""
