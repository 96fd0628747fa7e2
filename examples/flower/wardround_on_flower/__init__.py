"""A thin Flower app: Wardround's components, hosted by ``flwr run``."""
