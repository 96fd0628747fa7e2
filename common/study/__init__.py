"""A study: what one researcher asks of a network, signed, and the states that it goes through.

The signed study is what a hospital approves and what its client computes with: its settings are all
that its computation knows.
"""
