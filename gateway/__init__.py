"""Practice Gateway: keeps a GP practice working when its network or the national systems fail."""
