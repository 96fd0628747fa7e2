"""``calibrate``: what corrects a finished model over hospitals, in sums alone.

procedure  Newton steps, of all rows and of each half, then figures before and after
page       the same for people
"""
