"""What the coordinator does. Imports only ``wardround.common``."""

import wardround.common  # noqa: F401  (switches telemetry off before flwr is imported)
