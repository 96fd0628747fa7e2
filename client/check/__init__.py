"""``wardround data check``: a hospital's data held against a study's question, before it joins.

It connects to nobody, keeps nothing but its own page, and sees what training would see: the rows as
they are mapped, as the study's task reads them, split by the hospital's own held-out key. It finds
everything at once, says a place and a mend of each, and shows no value that fewer than five rows
share, on its page neither. It decides nothing: whether the hospital takes part is a person's word.
"""
