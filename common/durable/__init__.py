"""Files that survive a crash: whole ones, private ones, arrays with a checksum, locks of processes.

It never decides what is written or when.
"""
