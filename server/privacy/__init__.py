"""The server's half of differential privacy: common numbers, central noise, an adaptive norm.

It never vouches for a hospital's budget: claims are only read.
"""
