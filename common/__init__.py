"""What hospitals and the coordinator must agree on. Imports nothing else of Wardround.

Importing any part of Wardround imports this module first, and it switches off what Flower and Ray
would otherwise send to their makers: a hospital's process calls nobody but its coordinator. Nothing
else of the process changes: what gRPC reads is set by the server's and the hospital's own process,
at their start (``common/transport/only_tls13.py``).
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
