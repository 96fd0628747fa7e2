"""A finished model at work: its rows now, held against what it was made or tried with.

    rows      read as they come: nothing that is to be watched for is refused
    windows   which rows are looked at together
    watch     the counts of each window against a reference (``common/drift``), figures, a shadow
    report    what is told of it: values for programs, a page, lines

It answers at the place where the rows are. No row, and no count of few rows, stands in what it
writes; nothing is sent.
"""
