"""The doors to the world: one library each, no opinions."""
