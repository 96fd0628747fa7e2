"""Bytes between two processes: frames, mailboxes that survive a broken connection, mutual TLS.

It never looks into a message.
"""
