"""Markdown tables, and the pages they are put into."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replaced(page: str, name: str, text: str) -> str:
    """Return the tables with those of a part replaced, or added at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    part = f"{begin}\n\n{text}\n\n{end}"
    if begin not in page:
        return f"{page.rstrip()}\n\n{part}\n\n"
    before, rest = page.split(begin)
    return before + part + rest.split(end)[1]


def cpu_model() -> str:
    """The processor's name, where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
