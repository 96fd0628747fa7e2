"""Why a model says what it says of single rows: parts of its output, input by input.

It works on patients' rows, so it runs where they are; pages and pictures of it stay there. Nothing
in here sends, sums or stores anything for others.
"""
