"""Examples' inputs in a file: what is too large for memory, written once and read by rows.

``form.py`` has the file's form, ``writer.py`` writes it, ``store.py`` reads it, ``cache.py`` finds
one again in a folder. What is read has the bits that a tensor in memory would have. A file is no
more than a copy that can be made again: where it is damaged, or of other sources, it is.
"""
