"""Claims of panels (f) and (g) of the reproduction of arXiv 2405.04074 and 2204.07291: images, mean-field model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wideangle.papers.response_feature_claims import SIZE_NAMES
from wideangle.papers.response_judging import NOTICED, REDUCED, SIMILAR, claim_on, law_claims
from wideangle.papers.response_models import MODELLED
from wideangle.papers.response_panels import DESCENT, SINGLE
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.response import Measurements

FOLLOWED = 0.2  # Error of the model over the change of outputs, up to which the model describes networks.
SAME_STEPS = (0.2, 0.005)  # Between responses by steps and by the kernel, with the learning rate and 1/1000 of it.


def image_claims(measurements: Measurements) -> list[Claim]:
    """Judge small networks on images."""
    images = measurements.images
    descent = images.sel(training=DESCENT)
    first, last = descent.isel(time=0), descent.isel(time=-1)
    claims = [
        claim_on(
            f"Images: the response by the kernel is that of real steps with learning rate {each:g}; the relative"
            f" difference at the start is at most {allowed:g}.",
            descent["step_difference"].sel(learning_rate=each),
            (-math.inf, allowed),
        )
        for each, allowed in zip(images["learning_rate"].values.tolist(), SAME_STEPS, strict=True)
    ]
    claims += [
        claim_on(
            "Images: a simple response kernel; it falls with the distance between images at the start; the rank"
            " correlation is negative.",
            first["fall"],
            (-math.inf, 0.0),
            f"at the end {last['fall'].mean().item():.2f}",
        ),
        claim_on(
            f"Images: a decay times one kernel; its cosine with that at the start is at least {SIMILAR:g} at the end.",
            last["similarity"],
            (SIMILAR, math.inf),
        ),
    ]
    for method in (DESCENT, SINGLE):
        claims += law_claims(f"images, {method}", measurements.image_fits.sel(training=method))
    for name in ("active_units", "effective_rank", "participation_ratio"):
        pair = [images[name].sel(training=each).values for each in (SINGLE, DESCENT)]
        claims.append(
            claim_on(
                f"Images: single samples reduce the space of features; the {SIZE_NAMES[name]}, relative to that after"
                f" gradient descent, changes by -{REDUCED:g} or less.",
                (pair[0] - pair[1]) / pair[1].mean(),
                (-math.inf, -REDUCED),
                f"{pair[0].mean():.2f} and {pair[1].mean():.2f}",
            )
        )
    return claims


def model_claims(measurements: Measurements) -> list[Claim]:
    """Judge the mean-field model, and the splitting of the space of inputs."""
    claims = []
    for activation in MODELLED:
        here = measurements.model.sel(activation=activation)
        error = here["error"]
        claims.append(
            claim_on(
                f"The mean-field model explains how networks learn ({activation}): its error is at most {FOLLOWED:g}"
                " of the change of the outputs, at the end.",
                error.isel(time=-1),
                (-math.inf, FOLLOWED),
                f"at time {here['time'].values[len(error['time']) // 2]:.2g}:"
                f" {error.isel(time=len(error['time']) // 2).mean().item():.2f}",
            )
        )
        domains = here["network_domains"]
        claims.append(
            claim_on(
                f"The space of inputs is split ({activation}): networks have more domains of one sign at the end than"
                " at the start; the difference is positive.",
                domains.isel(time=-1).values - domains.isel(time=0).values,
                (0.0, math.inf),
                f"{domains.isel(time=0).mean().item():.2f} to {domains.isel(time=-1).mean().item():.2f} of"
                f" {int(measurements.model['label_domains'].max())} of the labels, model"
                f" {here['n_domains'].isel(time=-1).mean().item():.2f}",
            )
        )
    return claims


def relearning_claims(relearning: xr.Dataset) -> list[Claim]:
    """Judge whether training costs plasticity, by networks that learn other labels."""
    claims = []
    for labels in relearning["labels"].values.tolist():
        for name in relearning["case"].values.tolist():
            here = relearning.sel(case=name, labels=labels)
            first, last = here.isel(stage=0), here.isel(stage=-1)
            # Where a network was not done the time is a bound, which an untrained one must not have.
            ratio = (last["relearning_time"] / first["relearning_time"]).where(first["reached"])
            claims.append(
                claim_on(
                    f"Plasticity is lost finally, in real training ({name}, then gradient descent on {labels} labels):"
                    " ln of the time to learn them, over that of untrained networks, is at least ln 1.1.",
                    np.log(ratio.values),
                    (NOTICED, math.inf),
                    f"medians {first['relearning_time'].median().item():.3g} before training,"
                    f" {last['relearning_time'].median().item():.3g} after, half of the samples at"
                    f" {last['half_time'].median().item():.3g}; {last['reached'].mean().item():.0%} done",
                )
            )
    return claims
