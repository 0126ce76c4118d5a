"""``wideangle info``: version, machine and optional parts."""

from __future__ import annotations

import sys

import click

from wideangle._version import __version__
from wideangle.cli._shared import argument_errors


@click.command()
def info() -> None:
    """Show the version, the CPU paths of the kernel, the number of threads and the optional parts found.

    \b
    Example:
      wideangle info
    """
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    from wideangle._cpu import active_cpu_path, available_threads, cpu_paths

    with argument_errors():
        active = active_cpu_path()
    paths = ", ".join(f"{path} (in use)" if path == active else path for path in cpu_paths())
    rows = [("wideangle", __version__), ("Python", sys.version.split()[0]), ("CPU paths", paths)]
    rows.append(("threads", f"{available_threads()} (processors available to this process)"))
    for package, part in (("torch", "reference"), ("distributed", "distributed")):
        found = f'not found: pip install "wideangle[{part}]"'
        if find_spec(package) is not None:
            try:
                found = version(package)
            except PackageNotFoundError:
                found = "found, version unknown"
        rows.append((package, found))
    for name, value in rows:
        click.echo(f"{name:<12} {value}")
