"""Seconds after which a test gives up something that does not come: longer than a busy machine needs for anything."""

PATIENCE = 600.0
