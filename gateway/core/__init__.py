"""Pure decisions: standard library only; no await, clock, chance, logging, files or environment."""
