"""The parts of the failover bench: origin, load, records, figures, parties, world, picture."""
