"""The run manifest: what a run is and exactly what will leave a hospital, worked out by both sides.

It never takes part in sending: ``client/site/gate.py`` holds replies against it.
"""
