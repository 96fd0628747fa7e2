"""What travels between server and client: frames, contents of messages, the manifest."""
