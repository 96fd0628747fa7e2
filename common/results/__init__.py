"""The results of a run: the list that the server signs, and files on their way into a folder.

Both ends use it, and a researcher's `wardround study fetch`. A file counts once it has the digest
of the signed list; a folder of results is there as a whole or not at all. It never says what may be
in a file: who makes the package does.
"""
