"""The page of the reproduction of arXiv 2405.04074 and 2204.07291: captions, alternative texts, tables, provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wideangle.papers._page import Figure, Page, Panel, explain_verdicts
from wideangle.papers.response import SOURCE
from wideangle.papers.response_feature_claims import SIZE_NAMES, rate
from wideangle.papers.response_features import LOSSES, RADIUS
from wideangle.papers.response_figures import (
    SAMPLE,
    draw_aging,
    draw_factors,
    draw_features,
    draw_fragility,
    draw_images,
    draw_kernels,
    draw_model,
    draw_overview,
)
from wideangle.papers.response_models import IMAGE_PROBES, IMAGE_RATE, IMAGE_WIDTH, MODELLED
from wideangle.papers.response_panels import (
    ACTIVATIONS,
    DESCENT,
    EARLY,
    LATE,
    NOISE,
    NOISY,
    SINGLE,
    WIDTH,
    Case,
    samples,
)
from wideangle.papers.response_relearning import LEARNED
from wideangle.papers.response_tables import aging_table, features_table, fragility_table, kernels_table, shown

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Job, Measurements

TITLE = "Training response of neural networks"
LEAD = (
    "How does the output of a network at one input answer a step of training on another? K. Nakazato finds a power-law"
    " decay times a simple kernel, from which a mean-field model follows (arXiv 2204.07291), and in a very simple"
    " network several factors, that depend on stage, activation function and method, and a reduction of the space of"
    " features by stochastic training, which can make fragile (arXiv 2405.04074). Held against thousands of networks of"
    f" one hidden layer of {WIDTH} units on numbers between -1 and 1, and against PyTorch networks on images."
)
VERDICTS = (
    "Differences between methods are between networks from the same initial weights. The papers' words, such as simple"
    " or reduced, are put as numbers before the measurement; a claim that disagrees was not borne out in this setting."
)


def describe(job: Job, measurements: Measurements) -> Page[Measurements]:
    """Return what report.html shows."""
    return Page(
        title=TITLE,
        lead=LEAD,
        verdicts=explain_verdicts(
            VERDICTS, brackets="five standard errors over networks, or 95 % intervals where it says so"
        ),
        panels=(
            Panel(
                "a. Response kernels by stage and activation",
                Figure("kernels", draw_kernels, (9.2, 4.4)),
                kernels_alt(measurements),
                kernels_caption(job),
                kernels_table(measurements),
            ),
            Panel(
                "b. Aging by loss, method and activation",
                Figure("aging", draw_aging, (9.2, 3.2)),
                aging_alt(measurements),
                aging_caption(job),
                aging_table(measurements),
            ),
            Panel(
                "c. Factors of the response over time",
                Figure("factors", draw_factors, (9.2, 3.3)),
                factors_alt(measurements),
                FACTORS_CAPTION,
            ),
            Panel(
                "d. Space of features under stochastic training",
                Figure("features", draw_features, (9.2, 4.6)),
                features_alt(measurements),
                features_caption(job),
                features_table(measurements),
            ),
            Panel(
                "e. Fragility against the space of features",
                Figure("fragility", draw_fragility, (9.2, 3.9)),
                fragility_alt(measurements),
                FRAGILITY_CAPTION,
                fragility_table(measurements),
            ),
            Panel(
                "f. Images",
                Figure("images", draw_images, (9.2, 3.2)),
                images_alt(measurements),
                images_caption(job),
            ),
            Panel(
                "g. Mean-field model, domains and plasticity",
                Figure("model", draw_model, (9.2, 2.9)),
                model_alt(measurements),
                MODEL_CAPTION,
            ),
        ),
        overview=Figure("response", draw_overview, (11.0, 22.0)),
        numbers=numbers(measurements),
        provenance=provenance(job, measurements),
        source=SOURCE,
    )


def numbers(measurements: Measurements) -> dict[str, xr.Dataset]:
    """Return the Datasets by the names of their groups."""
    return {name.replace("_", "-"): dataset for name, dataset in vars(measurements).items()}


def kernels_caption(job: Job) -> str:
    x = samples()[0][SAMPLE, 0]
    return (
        f"Tangent kernel between the sample at {x:.2g} (dashed) and all inputs, above, and over that at the sample, the"
        f" shape of the response, below: means over {job.n_networks} networks, before training, at time {EARLY:g} and"
        f" at time {LATE:g} of gradient descent on the cross-entropy of eight samples. Time is learning rate times"
        " steps."
    )


def kernels_alt(measurements: Measurements) -> str:
    late = measurements.kernels.sel(stage="late").mean("network")
    parts = [
        f"{name}: rank correlation of the shape with distance {shown(late['fall'].sel(activation=name))}, cosine with"
        f" the kernel at the start {shown(late['similarity'].sel(activation=name))}"
        for name in ACTIVATIONS
    ]
    return f"Ten charts of kernels against x', two for each activation. Late in training, {'; '.join(parts)}."


def aging_caption(job: Job) -> str:
    return (
        "Response |l'| K(x, x) at the sample itself, mean over samples and networks (solid); what it would be with the"
        " kernel of the start, with the same order of samples (dashed: compiled steps); and the same as it is derived"
        f" for gradient flow (dots; these, and dashed lines of gradient descent, for {job.n_predicted} networks)."
        f" Learning rate {job.learning_rate:g}; label noise: single samples, of whose labels"
        f" {NOISE['cross-entropy']:.0%} have the wrong sign, or with normal noise of standard deviation"
        f" {NOISE['squared']:g} for the squared loss. Dashed lines of single samples are medians: some constant kernels"
        " are unstable. Exponents are slopes over the last factor 4 of time. Fits are over all time: 'none' is a law"
        " that misses more than 20 %. Where the response vanished there is no exponent."
    )


def aging_alt(measurements: Measurements) -> str:
    aging = measurements.aging
    parts = [
        f"{name}: exponent {shown(aging['response_exponent'].sel(case=name).mean())}, with a constant kernel"
        f" {shown(aging['constant_kernel_exponent'].sel(case=name).mean())}"
        for name in aging["case"].values.tolist()
    ]
    return f"Four log-log charts of the response against time. At the end, {'; '.join(parts)}."


FACTORS_CAPTION = (
    "Mean response to a sample, loss derivative, and the two parts of the kernel, K(x, x) from the readout and from the"
    " hidden layer, relative to their start. Dots: the loss derivative that is derived for gradient flow with the"
    " kernel of the start."
)


def factors_alt(measurements: Measurements) -> str:
    parts = []
    for case in (Case("cross-entropy", DESCENT, "relu"), Case("squared", NOISY, "relu")):
        end = measurements.aging.sel(case=case.name).mean("network").isel(time=[0, -1])
        ratios = {
            words: shown(end[name].values[1] / end[name].values[0])
            for name, words in (("loss_derivative", "loss derivative"), ("readout_part", "readout part"))
        }
        ratios["hidden part"] = shown(end["hidden_part"].values[1] / end["hidden_part"].values[0])
        parts.append(f"{case.name}: " + ", ".join(f"{name} {value}" for name, value in ratios.items()))
    return f"Four log-log charts against time. At the end, relative to the start, {'; '.join(parts)}."


def features_caption(job: Job) -> str:
    return (
        f"Hidden activations over 41 inputs after time {job.duration:g}, the same for all methods and learning rates;"
        " networks of ReLU. Kinks: different places in the interval at which a unit turns on. Effective rank and"
        " participation ratio are those of the covariance over inputs. Means over"
        f" {job.n_networks} networks, bands: one standard error. Steps of single samples are beyond their stability"
        " where learning rate times K(x, x), about 22 at the start, exceeds 2. Imbalance: sum of a^2 - |w|^2 - b^2 over"
        f" units with learning rate {min(job.learning_rates):g}, which gradient flow conserves (lines), and the changes"
        " that are expected of each step, added up (dots). That these reduce the space of features is not derived."
    )


def features_alt(measurements: Measurements) -> str:
    last = measurements.features.isel(time=-1).sel(learning_rate=rate(measurements))
    parts = [
        f"{loss}, {method}: " + ", ".join(_size(last, loss, method, name) for name in SIZE_NAMES)
        for loss in LOSSES
        for method in (DESCENT, SINGLE, NOISY)
    ]
    return (
        f"Eight charts against the learning rate, two of imbalances against time. At learning rate"
        f" {rate(measurements):g}, {'; '.join(parts)}."
    )


def _size(last: xr.Dataset, loss: str, method: str, name: str) -> str:
    return f"{SIZE_NAMES[name]} {shown(last[name].sel(loss_name=loss, training=method).mean())}"


FRAGILITY_CAPTION = (
    f"Left: each dot is a network. Worst change: largest exact change of the output within {RADIUS:g} of an input, over"
    " the root mean square of the outputs. Contradiction: change at other samples by a step on one whose label is"
    " changed, over that at the sample. Flips: share of inputs, or of samples, whose sign changes by that. Right:"
    " correlations of ranks over networks of all methods and learning rates, with 95 % intervals, for which"
    " networks that began alike are drawn together; smaller spaces in more fragile networks are negative."
)


def fragility_alt(measurements: Measurements) -> str:
    parts = []
    for loss in LOSSES:
        at = measurements.relations.sel(loss_name=loss, pool="all", feature_measure="effective_rank")
        found = ", ".join(
            f"{name.replace('_', ' ')} {shown(at['correlation'].sel(fragility_measure=name))}"
            for name in at["fragility_measure"].values.tolist()
        )
        parts.append(f"{loss}: {found}")
    return f"Two scatter charts and two charts of intervals. Correlations with the effective rank, {'; '.join(parts)}."


def images_caption(job: Job) -> str:
    return (
        f"{job.description} PyTorch networks of one hidden layer of {IMAGE_WIDTH} units on {job.image_samples} samples"
        f" of {job.data.name} with learning rate {IMAGE_RATE:g}, means over {job.n_runs} networks with each method:"
        " response at the sample itself, loss derivative and kernel along it; cosine of the kernel with that at the"
        f" start, and minus the rank correlation of the response at {IMAGE_PROBES} test images with their distance;"
        " sizes of the space of hidden features over the test images at the end."
    )


def images_alt(measurements: Measurements) -> str:
    parts = []
    for method in measurements.images["training"].values.tolist():
        here = measurements.images.sel(training=method).mean("run")
        last = here.isel(time=-1)
        parts.append(
            f"{method}: exponent {shown(here['exponent'])}, cosine {shown(last['similarity'])}, effective rank"
            f" {shown(here['effective_rank'])}, active units {shown(here['active_units'])}"
        )
    return f"Four charts: response, kernel and its form against time, and sizes of features. {'; '.join(parts)}."


MODEL_CAPTION = (
    "Outputs of a network and of its mean-field model at the end: the kernel at the start times a plasticity, the mean"
    " K(x, x) over time, and nothing else of the network. Errors over the change of the outputs (dashed: the plasticity"
    " does not age). Intervals of one sign of the output, of networks and (dashed) of the model; the line is their"
    " number in the labels. Plasticity, as the response to a sample with the other label, relative to the start; and"
    f" measured by training: the time until the loss on the opposite labels (dashed: on new ones) is {LEARNED:.2f},"
    " of networks that were trained before for the time on the axis, over that of untrained ones (geometric means;"
    " colours are those beside it)."
)


def model_alt(measurements: Measurements) -> str:
    parts = []
    for activation in MODELLED:
        here = measurements.model.sel(activation=activation).mean("network").isel(time=-1)
        parts.append(
            f"{activation}: error {shown(here['error'])}, with constant plasticity {shown(here['constant_error'])},"
            f" domains {shown(here['network_domains'])}, of the model {shown(here['n_domains'])}"
        )
    relearning = measurements.relearning["relearning_time"].median("network")
    for labels in relearning["labels"].values.tolist():
        for name in relearning["case"].values.tolist():
            first, last = relearning.sel(case=name, labels=labels).values[[0, -1]]
            parts.append(
                f"{name}, {labels} labels: learned in {shown(first, 0)} before, {shown(last, 0)} after training"
            )
    return (
        "Five charts: outputs against x, errors, domains, plasticity and time to relearn against time."
        f" {'; '.join(parts)}."
    )


def provenance(job: Job, measurements: Measurements) -> dict[str, Any]:
    """Return what is needed, beside version and seed, to compute the same again."""
    rates = ", ".join(f"{each:g}" for each in job.learning_rates)
    return {
        "Small networks": (
            f"1-{WIDTH}-1, {job.n_networks} of each kind; learning rate {job.learning_rate:g}, up to {job.n_steps}"
            f" steps; learning rates {rates} for time {job.duration:g}"
        ),
        "Training data": (
            f"{job.data.name}: the first {job.image_samples} of {len(job.data.x_train)} training samples;"
            f" {job.n_runs} networks with each method, {job.image_steps} steps"
        ),
        "Threads": job.n_threads,
        "Numbers": f"response.nc, groups {', '.join(numbers(measurements))} and claims",
    }
