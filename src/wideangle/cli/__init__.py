"""The command line: ``wideangle predict | simulate | analyze-representation | reproduce | study | info``.

Each module has the commands of one subject. Commands import what they need when they run, so that ``--help`` answers at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from wideangle._version import __version__
from wideangle.cli._shared import show_help_without_command
from wideangle.cli.angles import predict, simulate
from wideangle.cli.installation import info
from wideangle.cli.papers import reproduce
from wideangle.cli.representation import analyze_representation
from wideangle.cli.studies import study

EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell expects.


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad arguments (one line on standard error), 130 interrupted.

    A study of which cells failed exits with 1.

    Parameters
    ----------
    arguments
        Command and options; those of the process by default.
    """
    try:
        status = cli.main(args=arguments, prog_name="wideangle", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"wideangle: {' '.join(error.format_message().split())}", err=True)
        status = EXIT_BAD_ARGUMENTS
    except (click.Abort, KeyboardInterrupt):
        click.echo("wideangle: interrupted", err=True)
        status = EXIT_INTERRUPTED
    sys.exit(status)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wideangle")
@click.pass_context
def cli(context: click.Context) -> None:
    """Deep networks at finite and infinite width: predicted, simulated, trained and compared.

    \b
    Example:
      wideangle predict --width 256 --depth 32 --theta0 0.1
    """
    show_help_without_command(context)


for command in (predict, simulate, analyze_representation, reproduce, study, info):
    cli.add_command(command)
