"""What the tests need of the process they run in, and of others that they start."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest


def pytest_configure() -> None:
    """Answer Ctrl-C even if the shell started us with it ignored, which the children of tests would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _peak_memory(code: str) -> int:
    # VmHWM rather than ru_maxrss, which on Linux starts from the size of the process that forked.
    code = textwrap.dedent(code) + '\nprint(open("/proc/self/status").read().split("VmHWM:")[1].split("kB")[0])\n'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout) * 1024


@pytest.fixture
def peak_memory() -> Callable[[str], int]:
    """The function that runs code in a process of its own and returns the most bytes that it held at once."""
    return _peak_memory


INTERRUPTED = """
import threading
{setup}
print("ready", flush=True)
try:
    {endless}
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
{after}
"""


def _interrupt(setup: str, endless: str, after: str) -> str:
    code = INTERRUPTED.format(setup=textwrap.dedent(setup), endless=endless, after=textwrap.dedent(after))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            process.send_signal(signal.SIGINT)
            # Far more than the 0.2 s that are promised, for machines under load.
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    interrupted, _, rest = output.partition("\n")
    assert interrupted == "interrupted 1"
    return rest


@pytest.fixture
def interrupt() -> Callable[[str, str, str], str]:
    """The function that interrupts an endless call, between lines that run before and after it, in another process.

    It asserts that the call was under way, that it stopped soon and that no thread is left of it, and returns what the
    lines after it print.
    """
    return _interrupt
