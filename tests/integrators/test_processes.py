"""What needs a process of its own: the cache on disk, Ctrl-C, progress."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wideangle
from wideangle.dynamics import phase_diagram
from wideangle.integrators import integrate

pytest.importorskip("numba")
PACKAGE = Path(wideangle.__file__).parent

COUNTING = """
import sys
import numba
from numba.core import event

class Count(event.Listener):
    n = 0
    def on_start(self, event):
        Count.n += 1
    def on_end(self, event):
        pass

event.register("numba:compile", Count())
sys.path.insert(0, {folder!r})
import slopes
from wideangle.integrators import integrate
rhs = getattr(slopes, {name!r})
stiff = integrate(rhs, [1.0], [0.0, 1.0], params=[0.7], method="rodas5p")
run = integrate(rhs, [1.0], [0.0, 1.0], params=[0.7])
print(Count.n, run.y.values[0, -1, 0].hex(), stiff.y.values[0, -1, 0].hex())
"""
SLOPES = """
import numba

@numba.njit(cache=True)
def kept(t, y, params, out):
    out[0] = -{factor} * params[0] * y[0]

@numba.njit
def forgotten(t, y, params, out):
    out[0] = -{factor} * params[0] * y[0]
"""


def compilations(folder: Path, cache: Path, name: str) -> tuple[int, float, float]:
    """Integrate in a fresh process; return how often Numba compiled something, and two results."""
    source = str(PACKAGE.parent)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
    code = COUNTING.format(folder=str(folder), name=name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    number, explicit, stiff = run.stdout.split()
    return int(number), float.fromhex(explicit), float.fromhex(stiff)


@pytest.mark.slow
def test_compiled_code_is_kept_on_disk(tmp_path: Path) -> None:
    """A second process compiles nothing for a cached function, and only the wrapper for another one."""
    folder, cache = tmp_path / "code", tmp_path / "cache"
    folder.mkdir()
    (folder / "slopes.py").write_text(SLOPES.format(factor=1.0))
    first = compilations(folder, cache, "kept")
    assert first[0] > 50
    assert first[1] == pytest.approx(np.exp(-0.7), rel=1e-8)
    assert compilations(folder, cache, "kept") == (0, *first[1:])
    other = compilations(folder, cache, "forgotten")
    assert 0 < other[0] < 40
    assert other[1:] == first[1:]
    # A changed function is compiled anew, even if its file keeps size and time.
    stamp = (folder / "slopes.py").stat()
    (folder / "slopes.py").write_text(SLOPES.format(factor=2.0))
    os.utime(folder / "slopes.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    changed = compilations(folder, cache, "kept")
    assert changed[1] == pytest.approx(np.exp(-1.4), rel=1e-8)


@pytest.mark.slow
def test_a_changed_package_is_compiled_anew(tmp_path: Path) -> None:
    """Also if the file of the driver stays as it is, and size and time of the changed one do."""
    copy, cache = tmp_path / "src" / "wideangle", tmp_path / "cache"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    steps = copy / "integrators" / "_steps.py"
    code = (
        "from wideangle.integrators import integrate\n"
        "def rhs(t, y, params, out):\n"
        "    out[0] = y[0]\n"
        "print(int(integrate(rhs, [1.0], [0.0, 30.0]).n_steps[0]))"
    )

    def steps_taken() -> int:
        # Python's own bytecode files go by size and time.
        own = {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        environment = os.environ | own
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
        assert run.returncode == 0, run.stderr
        return int(run.stdout)

    before = steps_taken()
    stamp, text = steps.stat(), steps.read_text()
    assert "_SAFETY = 0.9\n" in text
    steps.write_text(text.replace("_SAFETY = 0.9\n", "_SAFETY = 0.5\n"))
    os.utime(steps, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert steps_taken() > 1.5 * before


def run_read_only(tmp_path: Path, code: str, home: str) -> str:
    """Run code with a copy of the package in whose folders no ``__pycache__`` can be made, not even by root."""
    copy = tmp_path / "src" / "wideangle"
    if not copy.exists():
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in {path.parent for path in copy.rglob("*.py")}:
            (folder / "__pycache__").touch()
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": home, "USERPROFILE": home, "LOCALAPPDATA": home, "PYTHONPATH": str(copy.parent)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_imports_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """Numba by itself refuses to declare functions that it finds no place for."""
    blocked = tmp_path / "file"
    blocked.touch()
    code = (
        "import wideangle.dynamics._flow, wideangle.dynamics._mode_flow, wideangle.dynamics._neuron_flow\n"
        "import wideangle.integrators._explicit, wideangle.integrators._rosenbrock\n"
        "print(wideangle.dynamics._flow.follow._cache.cache_path)"
    )
    assert run_read_only(tmp_path, code, str(blocked)) == "None\n"
    (tmp_path / "home").mkdir()
    assert run_read_only(tmp_path, code, str(tmp_path / "home")).startswith(str(tmp_path / "home"))


READ_ONLY = """
import sys
sys.path.insert(0, {folder!r})
import slopes
from wideangle.dynamics import phase_diagram
from wideangle.integrators import integrate
run = integrate(slopes.kept, [1.0], [0.0, 1.0], params=[0.7], method="dop853")
print(run.y.values[0, -1, 0].hex(), float(phase_diagram([0.2], [0.2]).convergence_time[0, 0]).hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("writable", [True, False])
def test_a_read_only_installation(tmp_path: Path, writable: bool) -> None:
    """Compiled code goes to the user's own cache, or if that cannot be written to either, is not kept."""
    folder, home = tmp_path / "code", tmp_path / "home"
    folder.mkdir()
    (folder / "slopes.py").write_text(SLOPES.format(factor=1.0))
    home.mkdir() if writable else home.touch()
    solution, time = map(
        float.fromhex, run_read_only(tmp_path, READ_ONLY.format(folder=str(folder)), str(home)).split()
    )
    assert solution == pytest.approx(np.exp(-0.7), rel=1e-8)
    expected = phase_diagram([0.2], [0.2], method="closed-form").convergence_time
    assert time == pytest.approx(float(expected[0, 0]), rel=1e-6)
    kept = {path.name.split(".")[0] for path in home.rglob("*.nbi")}
    assert kept == ({"_explicit", "_compilation"} if writable else set())


INTERRUPTED = """
import os, signal, threading, time
import numba, numpy as np
from wideangle.integrators import integrate

@numba.njit
def slope(t, y, params, out):
    out[0] = np.cos(t * 1e3) * y[0]

integrate(slope, [1.0], [0.0, 1e-3], method={method!r})
print("ready", flush=True)
def interrupt():
    time.sleep(0.5)
    global sent
    sent = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    integrate(slope, [1.0], [0.0, 1e9], params=np.ones((100, 1)), max_steps=10**12, n_threads=2, method={method!r})
except KeyboardInterrupt:
    print(time.perf_counter() - sent, sum(thread.is_alive() for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("method", ["dop853", "rodas5p"])
def test_ctrl_c(method: str) -> None:
    """Nothing runs on; how long it took is not asserted beyond a bound that a stuck driver would miss."""
    code = INTERRUPTED.format(method=method)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    ready, seconds, alive = run.stdout.split()
    assert ready == "ready"
    assert float(seconds) < 5.0
    assert int(alive) <= 2, "the main thread and perhaps the one that interrupted"


def test_progress(capfd: pytest.CaptureFixture[str]) -> None:
    def slope(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = params[0] * y[0]

    params = np.r_[np.full(90, -1.0), np.full(10, -1e5)][:, None]
    run = integrate(slope, [1.0], [0.0, 5.0], params=params, progress=True)
    assert sorted(np.unique(run.method)) == [1, 2]
    assert "100/100" in capfd.readouterr().err
    integrate(slope, [1.0], [0.0, 5.0], params=params)
    assert capfd.readouterr().err == ""


def test_several_callers_at_once() -> None:
    """Calls from different threads do not disturb each other."""
    import threading

    def slope(t, y, params, out):  # type: ignore[no-untyped-def]
        out[0] = -params[0] * y[0]

    found: dict[int, float] = {}

    def call(k: int) -> None:
        found[k] = float(integrate(slope, [1.0], [0.0, 1.0], params=[1.0 + k]).y[0, 1, 0])

    threads = [threading.Thread(target=call, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([found[k] for k in range(6)], np.exp(-1.0 - np.arange(6)), rtol=1e-8)
