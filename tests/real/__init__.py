"""Parts that no one here wrote, driven for real."""
