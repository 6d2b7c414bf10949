"""The loops, against the kit and SimClock."""
