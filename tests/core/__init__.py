"""Every decision of the core by direct call: no fakes, no sleeps, no async."""
