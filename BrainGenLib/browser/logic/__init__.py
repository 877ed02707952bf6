"""What the sections do."""
