"""Reading a hospital's files, with every problem named by file, line and column.

It never quotes a cell, and never guesses: what is left out is counted by its reason.
"""
