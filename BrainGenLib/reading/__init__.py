"""The one place where volumes from outside are read."""
