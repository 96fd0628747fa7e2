"""The client's end of the connection."""
