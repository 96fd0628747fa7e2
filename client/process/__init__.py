"""The hospital's process: it opens the kit, dials out, answers one request at a time.

State on disk, answer kept, audit line on disk, then bytes leave. It never computes on patients'
data itself: that is the app's.
"""
