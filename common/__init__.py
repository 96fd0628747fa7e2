"""What hospitals and the coordinator must agree on. Imports nothing else of Wardround.

Importing any part of Wardround imports this module first, and it switches off what Flower and Ray
would otherwise send to their makers: a hospital's process calls nobody but its coordinator. What
gRPC reads when it is first imported is set here, too.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# gRPC has no setting for the lowest TLS version. It takes a list of TLS 1.2 cipher suites, and one
# that needs RSA keys leaves our ECDSA certificates none: with them only TLS 1.3 comes about.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
# A stranger's failed handshakes must not fill our logs; what is wrong is said in our own words.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
