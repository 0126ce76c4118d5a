"""Benchmarks for asv; the comparison with other tools is ``../make_performance_page.py``."""

import sys
from pathlib import Path

# asv knows this folder alone; what benchmarks share with the comparison is in the package ``bench`` around it.
sys.path.append(str(Path(__file__).parents[2]))
