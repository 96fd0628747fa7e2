"""Split networks: a network whose parts lie at several parties, as an explicit research mode.

    schedule   which persons are held out, and which are in which batch: of the plan's seed
    modules    a party's tower; the outcome holder's own tower and head
    weights    parameters, their steps, and steps that bound what one person does to them
    crossing   what crosses: clipped, noised, as bytes
    sides      both halves on plain arrays
    party      both halves as parties of a joint procedure
    procedure  the joint procedure

What crosses are numbers of single persons. Without noise they tell the other party the outcome, and
much of the features (docs/vertical.md, «Split networks»); with noise that hides them they tell the
model little. So no hospital takes part unless its ``site.toml`` has ``split_networks = true``.
"""
