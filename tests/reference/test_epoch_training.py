"""Training in epochs, with the last hidden layer on the way."""

from __future__ import annotations

from threading import Event
from typing import Any

import numpy as np
import pytest

import wideangle as wa

torch = pytest.importorskip("torch")

from wideangle.reference._steps import as_tensors  # noqa: E402
from wideangle.reference.epoch_training import Descent, EpochRun, LayerRecord, train_epochs  # noqa: E402

DESCENT = Descent(
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=1e-3,
    batch_size=128,
    max_epochs=3,
    extra_epochs=0,
    to_zero_error=False,
)


def empty_record(data: wa.data.LabelledData, n_kept: int, width: int) -> LayerRecord:
    shapes = ((), (len(data.x_train), width), (len(data.x_test), width), (10, width), (10,))
    return LayerRecord(*(np.full((n_kept, *shape), np.nan, dtype=np.float32) for shape in shapes))


def run(
    model: Any, data: wa.data.LabelledData, descent: Descent = DESCENT, keep: Any = ("last",), **arguments: Any
) -> EpochRun:
    given: dict[str, Any] = {"seed": 1, "record": None, "stopped": Event(), **arguments}
    return train_epochs(model, as_tensors(data), descent, keep=keep, **given)


def build(seed: int = 1) -> Any:
    return wa.reference.build_mlp((20, 20), n_inputs=64, n_outputs=10, seed=seed, bias=True)


def test_layers_are_those_that_a_hook_sees() -> None:
    # More test samples than go through the network at once.
    digits = wa.data.load_digits(seed=1)
    data = wa.data.LabelledData(digits.x_test, digits.y_test, digits.x_train, digits.y_train, name="turned")
    model, record = build(), empty_record(data, 2, 20)
    found = run(model, data, keep=("2", "last"), record=record)
    for part in ("train", "test"):
        seen = wa.representation.extract_features(model, data, part=part)
        kept = getattr(record, f"{part}_features")
        np.testing.assert_array_equal(kept[1], seen.features)
        assert np.isfinite(kept[0]).all()
        assert not np.array_equal(kept[0], kept[1])
    np.testing.assert_array_equal(record.readout[1], seen.readout)
    np.testing.assert_array_equal(record.bias[1], seen.bias)
    np.testing.assert_array_equal(record.epoch, [2, 3])
    with torch.no_grad():
        outputs = model(torch.tensor(data.x_test)).numpy()
    np.testing.assert_allclose(found.test_outputs, outputs, rtol=1e-5, atol=1e-5)
    assert found.performance[-1, 3] == (found.test_outputs.argmax(axis=1) == data.y_test).mean()
    assert found.performance.shape == (4, 4)


def test_what_is_kept_does_not_change_when_training_goes_on() -> None:
    data = wa.data.load_digits(seed=1)
    short, long = empty_record(data, 1, 20), empty_record(data, 2, 20)
    run(build(), data, record=short)
    run(build(), data, DESCENT._replace(max_epochs=5), keep=("3", "last"), record=long)
    for field in LayerRecord._fields:
        np.testing.assert_array_equal(getattr(short, field)[0], getattr(long, field)[0], err_msg=field)


def test_an_event_stops_training_and_evaluation_at_once() -> None:
    data = wa.data.load_digits(seed=1)
    model, stopped = build(), Event()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    stopped.set()
    record = empty_record(data, 1, 20)
    run(model, data, DESCENT._replace(max_epochs=10**6), keep=("0",), record=record, stopped=stopped)
    assert len(calls) == 1
    assert np.isnan(record.test_features).all()


@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_divergence_at_the_start(part: str) -> None:
    digits = wa.data.load_digits(seed=1)
    arrays: dict[str, Any] = {name: getattr(digits, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    arrays[part] = np.full_like(arrays[part], 3e38)
    data = wa.data.LabelledData(**arrays, name="large")
    record = empty_record(data, 2, 20)
    found = run(build(), data, keep=("0", "last"), record=record)
    assert found.status == 1
    assert found.performance.shape == (0, 4)
    assert np.isnan(found.test_outputs).all()
    assert all(np.isnan(each).all() for each in record)
