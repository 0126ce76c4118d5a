"""Networks that are trained at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from wideangle.reference._side_by_side import side_by_side  # noqa: E402


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_order_with_one_thread_of_pytorch_each(n_threads: int) -> None:
    before = torch.get_num_threads()
    seen: set[int] = set()

    def train(item: int, stopped: threading.Event) -> tuple[int, int, bool]:
        seen.add(threading.get_ident())
        time.sleep(0.05 if item == 0 else 0.01)
        return item**2, torch.get_num_threads(), stopped.is_set()

    assert side_by_side(train, range(6), n_threads=n_threads) == [(item**2, 1, False) for item in range(6)]
    assert len(seen) == n_threads
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_stops_the_others(n_threads: int) -> None:
    ended = []
    before = threading.active_count()

    def train(item: int, stopped: threading.Event) -> None:
        if item == 0:
            raise RuntimeError("no such network")
        if not stopped.wait(timeout=20):
            pytest.fail("not stopped")
        ended.append(item)

    with pytest.raises(RuntimeError, match="no such network"):
        side_by_side(train, range(4), n_threads=n_threads)
    assert 3 not in ended
    assert threading.active_count() == before


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_stops_all(interrupt: Callable[[str, str, str], str], n_threads: int) -> None:
    setup = """
    import time
    from wideangle.reference._side_by_side import side_by_side
    def train(item, stopped):
        while not stopped.is_set():
            time.sleep(0.01)
    side_by_side(lambda item, stopped: None, range(3), n_threads=2)
    """
    after = "print(side_by_side(lambda item, stopped: item, range(3), n_threads=2))"
    assert interrupt(setup, f"side_by_side(train, range(3), n_threads={n_threads})", after) == "[0, 1, 2]\n"
