"""Handlers: read, call, reply."""
