"""The whole gateway in one process, in a seeded world."""
