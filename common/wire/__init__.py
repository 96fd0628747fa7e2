"""What travels between server and client: frames, messages, the signed description, the manifest."""
