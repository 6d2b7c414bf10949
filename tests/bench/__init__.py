"""Measurements, run by make bench; no test of CI."""
