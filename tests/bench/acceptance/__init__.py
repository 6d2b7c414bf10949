"""The acceptance table of the links, each row measured: ``python -m tests.bench.acceptance``."""
