"""Secure aggregation: the server learns a sum over hospitals and nothing else.

Double masking (Bonawitz et al. 2017) with key bundles made ahead, complete graph or k-regular one
(Bell et al. 2020). Each hospital sends y = x + PRG(b) + sum over neighbours +-PRG(k) in a ring;
pair masks cancel in the sum, and the shares of t holders open the self masks b of those who
uploaded and the round keys of those who did not, never both of one hospital.

    keys      key derivation, signatures, key agreement, the per-aggregation key chain
    shamir    sharing of secrets, t of n
    ring      vectors modulo 2^16 or 2^32 and 2^192, and masks expanded into them
    encoding  from model updates and metrics to ring vectors and back
    graph     who masks with whom, and which thresholds are safe
    fields, messages  the wire format of every message, checked field by field
    group_key a key that hospitals share and the server never has

``client/secagg/party.py`` and ``server/secagg/sum.py`` are the two parties as state machines,
without any transport; docs/threat_model.md says what holds against whom.
"""
