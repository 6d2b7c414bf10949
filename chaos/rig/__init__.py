"""What makes the weather: each rig does what its means allow, and says what it cannot."""
