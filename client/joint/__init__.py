"""A hospital's half of joint procedures: what a step finds here, and what it leaves.

It answers a step by a party of ``common/joint``, made of the hospital's own rows, and never by
anything that a request says beyond letters of the plan's parties.
"""
