"""How the sections look."""
