"""The steps by which a database of studies became what it is, oldest first.

``schema.py`` takes them when a store is opened. A step that was released is never changed: what
changes is a new step, so that the databases of all earlier versions can be opened.
"""
