"""Ensembles of small networks in training, in one compiled loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from wideangle._checks import (
    check_choice,
    check_flag,
    check_integer,
    check_memory,
    check_samples,
    check_seed,
    check_threads,
)
from wideangle._provenance import provenance
from wideangle.activations import Activation, parse_activation
from wideangle.data import LabelledData
from wideangle.losses import Loss, parse_loss
from wideangle.network import MLP, NetworkWeights
from wideangle.propagation._ensembles import check_index
from wideangle.response._state import layer_slices
from wideangle.response._training_arguments import (
    MAX_STEPS,
    check_batch,
    check_biases,
    check_data,
    check_kept,
    check_learning_rate,
    check_method,
    check_noise,
    check_records,
)
from wideangle.response._training_results import add_evaluations, data_digest, training_dataset
from wideangle.response._training_run import TrainingRun, learning_rate_factors
from wideangle.response._training_start import check_start

if TYPE_CHECKING:
    import xarray as xr

SOURCE = "gradient descent on the parameters of each network, in float64; setting of arXiv 2405.04074"


def simulate_training(
    network: MLP,
    data: tuple[ArrayLike, ArrayLike] | LabelledData,
    *,
    n_networks: int,
    n_steps: int,
    batch: str | int = "full",
    learning_rate: float,
    loss: str | Loss = "cross-entropy",
    activation: str | Activation | None = None,
    noise: float | None = None,
    seed: int,
    record: int | tuple[int, ...] | None = None,
    initial: xr.Dataset | NetworkWeights | None = None,
    start_step: int | None = None,
    method: str = "descent",
    replacement: bool = True,
    readout: str = "trained",
    biases: bool | str = True,
    parametrization: str = "standard",
    keep: tuple[str, ...] = (),
    rtol: float | None = None,
    first_network: int = 0,
    n_threads: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    r"""Train an ensemble of small networks, each from its own random weights, and record what they become.

    The network :math:`z^l = W^l h^{l-1} + b^l`, :math:`h^l = \phi(z^l)`, :math:`h^0 = x` has one linear output
    :math:`f = W^{L+1} h^L + b^{L+1}` and starts where :func:`wideangle.propagation.simulate_outputs` has network k:
    the variances of ``network`` hold for the readout too. Descent of the mean loss over a batch moves its parameters as
    they act, :math:`W^l \leftarrow W^l - \eta c_l\, \partial \mathcal L/\partial W^l`, and likewise the biases, in
    float64. Everything runs in one compiled loop, eight networks side by side in each vector.

    Parameters
    ----------
    network
        Hidden layers, activation and variances.
    data
        Pair (x, y) of inputs (sample, feature) and labels (sample,), or :class:`wideangle.data.LabelledData` of two
        classes, of which the training part is taken, with labels -1 and 1. The squared loss takes any labels, the
        others -1 and 1.
    n_networks
        Number of networks.
    n_steps
        Number of steps; an epoch of permuted batches has as many as it takes to meet every sample once.
    batch
        ``"full"`` (default) for all samples in every step, or the number of samples of a step.
    learning_rate
        :math:`\eta > 0`.
    loss
        ``"cross-entropy"`` (default), ``"hinge"``, ``"squared"``, :math:`(f-y)^2/2`, or ``"exponential"``; see
        :mod:`wideangle.losses`.
    activation
        In place of the network's own; default None.
    noise
        Label noise, drawn anew in every visit: for the squared loss the standard deviation of a normal number added to
        y, for the others the probability that y changes its sign. Default None, no noise.
    seed
        Non-negative integer below 2**64. Network k depends on the seed, k and the other arguments, not on
        ``n_networks``, ``n_threads``, ``record``, or the processor's instruction set. Equality across minor versions of
        the package is not promised.
    record
        Steps of the run to record, counted from its start: None (default) for 0, the powers of two and ``n_steps``; an
        interval in steps, start and end included; or increasing steps from 0 to ``n_steps``.
    initial
        Networks to go on with, in place of those drawn: a state that this function returned, at one time, or
        :class:`wideangle.NetworkWeights`; ``n_networks`` of them, or one from which all start. They are taken as they
        are: loss, data, method and rates of this run are those of its own arguments.
    start_step
        Number of the first step. Samples and noise of a step are functions of the seed, the network and this number,
        so that a run that goes on where another ended, with the same arguments, gives what one long run gives. By
        default the ``step`` of ``initial``, or 0; the time then goes on from that of ``initial``, too.
    method
        ``"descent"`` (default), or ``"flow"``: :math:`\dot W^l = -c_l\, \partial\mathcal L/\partial W^l` up to the
        time :math:`\eta\, n_{steps}`, by the pair of orders 5 and 4 of Dormand and Prince, each network with steps of
        its own; with a full batch and without noise only.
    replacement
        Whether the samples of a batch are drawn independently (default), or each batch continues a permutation of the
        data, drawn anew for each network and epoch; the last batch of an epoch is smaller where sizes do not divide.
    readout
        ``"trained"`` (default) or ``"frozen"``: :math:`c_{L+1} = 0`.
    biases
        True (default); ``"hidden"``, :math:`f = W^{L+1} h^L` without a bias; or False for none: those are 0 and stay 0.
    parametrization
        ``"standard"`` (default): all :math:`c = 1`. ``"ntk"``: descent of standard normal weights and biases,
        :math:`W = \sqrt{\sigma_w^2/n}\,\omega` and :math:`b = \sigma_b \beta`, that is
        :math:`c = \sigma_w^2/n_{l-1}` for weights and :math:`\sigma_b^2` for biases.
    keep
        Names of what else to keep: ``"tangent_kernel"``, ``"hidden_activations"``.
    rtol
        What a step of gradient flow may err by, as a part of the norm of all parameters. Default 1e-8, and 1e-6 where
        the flow has kinks (``relu``, ``leaky_relu``, ``abs``; hinge loss): units and margins come to stay at a kink,
        with steps to either side as short as ``rtol``, and the time goes with its inverse (see Notes). Steps end at
        the recorded times, so that for flow results depend on ``record`` within this accuracy.
    first_network
        Index of the first network, default 0, so that one ensemble can be trained in parts;
        ``xarray.concat(parts, "network")`` is the whole.
    n_threads
        Threads; default every processor available. Results do not depend on it.
    progress
        Whether to show a progress bar.

    Returns
    -------
    xarray.Dataset
        Dimensions network, time, sample, feature, unit_1 to unit_L, output (of length 1).

        - ``weights_1(network, time, unit_1, feature)``, ``biases_1(network, time, unit_1)``, ..., the readout being
          ``weights_{L+1}(network, time, output, unit_L)`` and ``biases_{L+1}(network, time, output)``;
        - ``outputs(network, time, sample)``, and ``loss(network, time)``, their mean loss with the labels as given;
        - ``tangent_kernel(network, time, sample, other_sample)``,
          :math:`\sum_p c_p\, \partial_p f(x)\, \partial_p f(x')` over all parameters p, and
          ``hidden_activations(network, time, sample, unit_L)``, if asked for;
        - ``status(network)``: 0, or 1 where a network has diverged; ``diverged_step(network)``: the step in which the
          output for a sample of its batch exceeded 1e100 in size or was not a number, where the step after the last
          counts, else -1. The network is NaN before that step and later; the others go on.

        Coordinates: ``time``, that of gradient flow, :math:`\eta` times the steps; ``step``, ``start_step`` included;
        ``network``; the data, ``x(sample, feature)`` and ``y(sample)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range, or the labels do not fit the loss, before any work.
    KeyboardInterrupt
        On Ctrl-C, within 0.2 s; nothing is left running.

    Notes
    -----
    Gradient flow at a kink is the limit of short steps, which slides along the kink (a solution in the sense of
    Filippov). For 1-20-1 networks of ReLU on eight samples up to the time 100 parameters were off by 5e-4 of their norm
    for ``rtol=1e-5`` and 1e-4 for 1e-6, in 4 ms and 30 ms a network; with the hinge loss, whose margins stay at 1, in
    60 ms and 600 ms. A network that comes to a kink where it could go either way may go the other one.

    References
    ----------
    The setting is that of arXiv 2405.04074.

    Examples
    --------
    >>> import numpy as np
    >>> import wideangle as wa
    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> run = wa.response.simulate_training(
    ...     wa.MLP((20,), bias_variance=1.0), (x, np.sign(x[:, 0])), n_networks=100, n_steps=2000, batch=1,
    ...     learning_rate=0.1, seed=1, record=500
    ... )
    >>> dict(run.weights_1.sizes)
    {'network': 100, 'time': 5, 'unit_1': 20, 'feature': 1}
    >>> bool((run.loss.isel(time=-1) < run.loss.isel(time=0)).all())
    True

    The same networks learn the opposite:

    >>> again = wa.response.simulate_training(
    ...     wa.MLP((20,)), (x, -np.sign(x[:, 0])), initial=run.isel(time=-1), n_networks=100, n_steps=2000, batch=1,
    ...     learning_rate=0.1, seed=1
    ... )
    >>> again.step.values[[0, -1]].tolist()
    [2000, 4000]
    """
    net, loss = _check_net(network, activation), parse_loss(loss)
    n_networks = check_samples("n_networks", n_networks)
    first_network = check_index("first_network", first_network, of="first network")
    layers = check_biases(biases)
    run = _check_run(
        net,
        data,
        loss,
        n_steps=n_steps,
        batch=batch,
        learning_rate=learning_rate,
        noise=noise,
        seed=seed,
        record=record,
        method=method,
        replacement=replacement,
        readout=readout,
        biases=layers,
        parametrization=parametrization,
        rtol=rtol,
    )
    kept = check_kept(keep)
    n_threads = check_threads(n_threads)
    progress = check_flag("progress", progress)
    start = check_start(
        initial, start_step, run, net, n_networks=n_networks, first_network=first_network, biases=layers
    )
    run = run.starting_at(start.first_step)
    _check_memory(run, n_networks, kept)
    begin = start.parameters(run, net, first_network=first_network, n_networks=n_networks, biases=layers)
    parameters, diverged_step = run.train(begin, first_network=first_network, n_threads=n_threads, progress=progress)
    dataset: xr.Dataset = training_dataset(run, parameters, diverged_step, first_network)
    dataset = dataset.assign_coords(time=start.times(run))
    add_evaluations(dataset, run, parameters, kept, n_threads)
    dataset.attrs = provenance(
        "wideangle.response.simulate_training",
        source=SOURCE,
        net=net,
        n_networks=n_networks,
        n_steps=run.n_steps,
        initial=start.digest,
        start_step=run.first_step,
        batch=batch,
        learning_rate=run.learning_rate,
        loss=str(loss),
        noise=run.noise,
        seed=run.seed,
        method=method,
        replacement=bool(replacement),
        readout=readout,
        biases=layers,
        parametrization=parametrization,
        rtol=run.tolerance,
        weight_rates=run.weight_rates,
        bias_rates=run.bias_rates,
        first_network=first_network,
        data_digest=data_digest(run.x, run.y),
    )
    return dataset


def _check_net(network: Any, activation: Any) -> MLP:
    if not isinstance(network, MLP):
        raise TypeError(
            f"network must be a wideangle.MLP, got {network!r} ({type(network).__name__}); give wa.MLP(widths), such "
            "as wa.MLP((20,))"
        )
    if activation is None:
        return network
    return MLP(
        network.widths,
        activation=parse_activation(activation),
        weight_variance=network.weight_variance,
        bias_variance=network.bias_variance,
    )


def _check_run(
    net: MLP,
    data: Any,
    loss: Loss,
    *,
    n_steps: Any,
    batch: Any,
    learning_rate: Any,
    noise: Any,
    seed: Any,
    record: Any,
    method: Any,
    replacement: Any,
    readout: Any,
    biases: str,
    parametrization: Any,
    rtol: Any,
) -> TrainingRun:
    """Return what is to be done, from step 0 on."""
    x, y = check_data(data, loss)
    n_steps = check_integer("n_steps", n_steps, low=0, high=MAX_STEPS, remedy="give the number of steps")
    size, noise = check_batch(batch, len(x)), check_noise(noise, loss)
    readout = check_choice("readout", readout, ("trained", "frozen"))
    parametrization = check_choice("parametrization", parametrization, ("standard", "ntk"))
    rates = learning_rate_factors(net, x.shape[1], parametrization=parametrization, readout=readout, biases=biases)
    drawn = check_flag("replacement", replacement)
    return TrainingRun(
        x=x,
        y=y,
        widths=net.widths,
        activation=net.phi,
        loss=loss,
        weight_rates=rates[0],
        bias_rates=rates[1],
        learning_rate=check_learning_rate(learning_rate),
        n_steps=n_steps,
        records=check_records(record, n_steps),
        order="full" if size is None else "drawn" if drawn else "permuted",
        batch=size or len(x),
        seed=check_seed(seed),
        noise=noise,
        tolerance=check_method(method, batch, noise, rtol, smooth=_is_smooth(net, loss)),
    )


def _is_smooth(net: MLP, loss: Loss) -> bool:
    return loss.name != "hinge" and (net.phi.name == "linear" or not net.phi.homogeneous)


def _check_memory(run: TrainingRun, n_networks: int, keep: tuple[str, ...]) -> None:
    n_parameters, n_samples = layer_slices(run.sizes)[-1].biases.stop, len(run.x)
    numbers = n_parameters + n_samples + 1
    if "tangent_kernel" in keep:
        numbers += n_samples**2
    if "hidden_activations" in keep:
        numbers += n_samples * run.widths[-1]
    check_memory(
        8 * n_networks * (n_parameters + len(run.records) * numbers),
        f"n_networks = {n_networks} with {len(run.records)} records needs",
        remedy="record fewer steps, keep less, or run parts of the ensemble with first_network",
    )
