"""What several commands have in common: options, errors as one line, the width of the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@contextmanager
def argument_errors() -> Iterator[None]:
    """Turn the errors with which the library refuses arguments into one line for the terminal."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def show_help_without_command(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def add_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Add options that several commands have, in the order in which --help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def integers(option: str, text: str) -> list[int]:
    """Return the integers of an option that takes several."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be integers with commas between, such as 20,8,40,12, got {text!r}") from None


def terminal_width() -> int:
    return min(shutil.get_terminal_size((110, 24)).columns, 160)


def show_progress(asked: bool | None) -> bool:
    return sys.stderr.isatty() if asked is None else asked
