"""Reproductions of papers: each measures, draws, judges the paper's claims and writes a report."""
