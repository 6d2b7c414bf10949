"""The loops: they wait and carry, and decide nothing."""
