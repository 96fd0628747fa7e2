"""Forms of local training for many clients at once."""
