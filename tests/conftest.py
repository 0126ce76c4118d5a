"""What the tests need of the process they run in."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Answer Ctrl-C even if the shell started us with it ignored, which the children of tests would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
