"""Training in PyTorch, against the same training written in NumPy."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wideangle as wa

torch = pytest.importorskip("torch")


def numbered(n_train: int, n_test: int = 4) -> wa.data.LabelledData:
    """Return data whose first feature is the number of the sample."""
    rng = np.random.default_rng(0)

    def features(n_samples: int) -> NDArray[np.float64]:
        return np.column_stack([np.arange(n_samples), rng.normal(size=(n_samples, 2))])

    train, test = features(n_train), features(n_test)
    return wa.data.LabelledData(train, np.arange(n_train) % 3, test, np.arange(n_test) % 3, name="numbered")


class Recorder(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A linear classifier that remembers which samples it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, 3))
        self.batches: list[list[int]] = []

    def forward(self, x: Any) -> Any:
        if torch.is_grad_enabled():
            self.batches.append(x[:, 0].to(int).tolist())
        return x @ self.weight.T


def test_every_epoch_is_a_new_permutation_with_its_last_batch_smaller() -> None:
    model = Recorder()
    result = wa.reference.train_classifier(model, numbered(23), seed=1, batch_size=10, epochs=3)
    assert result.steps == 9
    assert [len(batch) for batch in model.batches] == [10, 10, 3] * 3
    orders = [list(itertools.chain(*model.batches[first : first + 3])) for first in (0, 3, 6)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(23))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_steps_replace_epochs_and_begin_again(steps: int) -> None:
    long, short = Recorder(), Recorder()
    wa.reference.train_classifier(long, numbered(23), seed=1, batch_size=10, epochs=4)
    result = wa.reference.train_classifier(short, numbered(23), seed=1, batch_size=10, epochs=9, steps=steps)
    assert result.steps == steps == len(result.train_loss)
    assert short.batches == long.batches[:steps]


def test_losses_agree_with_adam_and_back_propagation_in_numpy() -> None:
    data = numbered(40)
    model = wa.reference.build_mlp((8, 6), n_inputs=3, n_outputs=3, seed=2)
    weights = [parameter.detach().numpy().astype(np.float64) for parameter in model.parameters()]
    recorder = Recorder()
    wa.reference.train_classifier(recorder, data, seed=3, batch_size=16, steps=12)
    found = wa.reference.train_classifier(model, data, seed=3, batch_size=16, steps=12, learning_rate=0.01)

    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    expected = []
    for step, batch in enumerate(recorder.batches, start=1):
        x, y = data.x_train[batch].astype(np.float64), data.y_train[batch]
        activations = [x]
        for weight in weights[:-1]:
            activations.append(np.maximum(activations[-1] @ weight.T, 0.0))
        outputs = activations[-1] @ weights[-1].T
        probabilities = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        expected.append(-np.log(probabilities[np.arange(len(y)), y]).mean())
        delta = (probabilities - np.eye(3)[y]) / len(y)
        gradients = []
        for weight, activation in zip(weights[::-1], activations[::-1], strict=True):
            gradients.append(delta.T @ activation)
            delta = (delta @ weight) * (activation > 0.0)
        for k, gradient in enumerate(gradients[::-1]):
            first[k] = 0.9 * first[k] + 0.1 * gradient
            second[k] = 0.999 * second[k] + 0.001 * gradient**2
            mean, square = first[k] / (1.0 - 0.9**step), second[k] / (1.0 - 0.999**step)
            weights[k] = weights[k] - 0.01 * mean / (np.sqrt(square) + 1e-8)
    # Float32 rounds by 6e-8, and a dozen steps through three layers amplify that by less than a thousand.
    np.testing.assert_allclose(found.train_loss, expected, rtol=1e-4)
    assert found.train_loss[-1] < 0.9 * found.train_loss[0]


def test_accuracy_is_the_share_of_correct_classes_beyond_one_block() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2345, 4)), rng.integers(0, 5, 2345)
    data = wa.data.LabelledData(x[:10], y[:10], x, y, name="noise")
    model = wa.reference.build_mlp((9,), n_inputs=4, n_outputs=5, seed=1)
    hidden, output = (parameter.detach().numpy().astype(np.float64) for parameter in model.parameters())
    expected = ((np.maximum(x @ hidden.T, 0.0) @ output.T).argmax(axis=1) == y).mean()
    found = wa.reference.train_classifier(model, data, seed=1, batch_size=10, learning_rate=1e-30)
    # A tie within float32 could move one sample.
    assert abs(found.accuracy - expected) <= 1.0 / 2345


def test_digits_are_learned() -> None:
    data = wa.data.load_digits(seed=1)
    model = wa.reference.build_mlp((64, 64), n_inputs=64, n_outputs=10, seed=1)
    result = wa.reference.train_classifier(model, data, seed=1, steps=300)
    assert result.status == 0
    assert result.accuracy > 0.93
    assert result.train_loss[-50:].mean() < 0.2 < result.train_loss[0]
    assert result.seconds > 0.0


def test_result_is_a_function_of_the_seed_and_leaves_no_trace() -> None:
    data = wa.data.load_digits(seed=1)

    def trained(seed: int) -> wa.reference.TrainingResult:
        model = wa.reference.build_mlp((20,) * 3, n_inputs=64, n_outputs=10, seed=1)
        return wa.reference.train_classifier(model, data, seed=seed, steps=30)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = torch.get_rng_state()
    one, again, other = trained(1), trained(1), trained(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(one.train_loss, again.train_loss)
    assert one.accuracy == again.accuracy
    assert not np.array_equal(one.train_loss, other.train_loss)


@pytest.mark.parametrize(("steps", "taken"), [(20, 2), (1, 1)])
def test_divergence_is_a_status(steps: int, taken: int) -> None:
    data = wa.data.load_digits(seed=1)
    model = wa.reference.build_mlp((20,) * 3, n_inputs=64, n_outputs=10, seed=1)
    result = wa.reference.train_classifier(model, data, seed=1, steps=steps, learning_rate=1e30)
    assert result.status == 1
    assert math.isnan(result.accuracy)
    assert result.steps == len(result.train_loss) == taken


def test_interrupt_stops_training_at_once_and_restores_the_threads() -> None:
    data = wa.data.load_digits(seed=1)
    model = wa.reference.build_mlp((50,) * 50, n_inputs=64, n_outputs=10, seed=1)
    wa.reference.train_classifier(model, data, seed=1, steps=2)
    threads = torch.get_num_threads()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    # Months of training, were it to go on.
    with pytest.raises(KeyboardInterrupt):
        wa.reference.train_classifier(model, data, seed=1, steps=10**9)
    timer.join()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": np.zeros((3, 3))}, TypeError, "data must be a LabelledData"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate must be finite"),
        ({"batch_size": 24}, ValueError, "batch_size must lie between 1 and 23"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = Recorder()
    good: dict[str, Any] = {"data": numbered(23), "seed": 1, "batch_size": 10}
    with pytest.raises(error, match=message):
        wa.reference.train_classifier(model, **{**good, **arguments})
    assert not model.batches


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(4, 3), (3, 4)])
def test_model_that_does_not_fit_the_data_is_refused(n_inputs: int, n_outputs: int) -> None:
    model = wa.reference.build_mlp((5,), n_inputs=n_inputs, n_outputs=n_outputs, seed=1)
    with pytest.raises(ValueError, match=r"model must map .* n_inputs=3, n_outputs=3"):
        wa.reference.train_classifier(model, numbered(23), seed=1, batch_size=10)
