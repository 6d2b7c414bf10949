"""The chaos world itself, tested: rigs, promises, stories."""
