"""A hospital's own rules and its kit, and its last word on what leaves.

    kit enroll stop        the folder that a hospital is given, its keys, the kill switch
    policy plan_checks     ``site.toml``, and a run manifest held against it
    approval consent decisions plan_text   a person's word on a plan
    last_word gate outward  what the process asks before it begins and before bytes leave

It never computes on data, and it takes nobody's word for what a reply holds: it looks at the reply.
"""
