"""Benchmarks for asv; the comparison with other tools is ``../make_performance_page.py``."""
