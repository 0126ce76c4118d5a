"""The claims of the propagation papers, each with what was measured. X is ln sin² θ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wideangle.papers._verdicts import estimated_claim, exact_claim
from wideangle.reports import Claim

if TYPE_CHECKING:
    import xarray as xr

    from wideangle.papers.propagation import Measurements

MEAN_TOLERANCE = 0.01  # 4 % of what finite width adds to the mean at the figure's last layer, -0.25.
DRIFT = 0.1
SD_TOLERANCE = 0.01
MANY_TOLERANCE = 0.3  # 2 % of what 32 layers take off ln det of ten nearly parallel inputs at width 256.
REJECTION_LEVEL = 0.001
SPEARMAN_BOUND = 0.8

NAMES = {
    "infinite-width": "The infinite-width limit",
    "finite-width-linear": "Approximation 1",
    "finite-width": "Theorem 1",
    "small-angle": "The exact small-angle law",
    "exact": "The exact law at any angle",
}
DENSITY_NAMES = {
    "finite-width-linear": "Approximation 2",
    "finite-width": "Theorem 1",
    "small-angle": "the exact small-angle law",
}
SPREAD_PANEL = 1  # The deeper one of the figure's angle.


def judge(measurements: Measurements) -> tuple[Claim, ...]:
    """Return all claims in the order of the panels."""
    return (
        *mean_claims(measurements.angles),
        *mean_claims(measurements.small_angles),
        *spread_claims(measurements.angles, measurements.histograms),
        *density_claims(measurements.histograms),
        *training_claims(measurements.training),
        *many_inputs_claims(measurements.many_inputs),
    )


def mean_claims(angles: xr.Dataset) -> list[Claim]:
    """Judge the predicted means at the last layer."""
    last = angles.isel(layer=-1)
    layer, theta0 = int(last["layer"]), angles.attrs["theta0"]
    standard_error = last["ensemble_mean_standard_error"].item()
    claims = []
    for method in angles["predictor"].values:
        error = (last["log_sin2"].sel(predictor=method) - last["ensemble_mean"]).item()
        z = -last["z_mean"].sel(predictor=method).item()
        mean, angle = f"the mean of X at layer {layer}", f"for θ₀ = {angle_text(theta0)}"
        statement = f"{NAMES[str(method)]} gives {mean} within {MEAN_TOLERANCE:g} {angle}."
        allowed = (-MEAN_TOLERANCE, MEAN_TOLERANCE)
        if method == "infinite-width":
            statement = f"{NAMES[str(method)]} misses {mean} by more than {DRIFT:g} {angle}."
            allowed = (DRIFT, math.inf)
        claims.append(estimated_claim(statement, error, standard_error, allowed, f"{z:+.1f} se"))
    return claims


def spread_claims(angles: xr.Dataset, histograms: xr.Dataset) -> list[Claim]:
    """Judge the predicted standard deviations at layer 30."""
    panel = histograms.isel(panel=SPREAD_PANEL)
    layer = int(panel["layer"])
    here = angles.sel(layer=layer)
    sd = math.sqrt(here["ensemble_variance"].item())
    sd_error = here["ensemble_variance_standard_error"].item() / (2.0 * sd)

    def claim(statement: str, predicted: float, allowed: tuple[float, float]) -> Claim:
        ratio = predicted / sd
        return estimated_claim(statement, ratio, ratio * sd_error / sd, allowed, f"{predicted:.3f} against {sd:.3f}")

    claims = [
        claim(
            f"The density of {DENSITY_NAMES[str(method)]} has the sd of X at layer {layer}: the ratio is 1 within 1 %.",
            predicted,
            (1.0 - SD_TOLERANCE, 1.0 + SD_TOLERANCE),
        )
        for method, predicted in zip(panel["predictor"].values, panel["predicted_sd"].values, strict=True)
        if not math.isnan(predicted)
    ]
    claims.append(
        claim(
            f"Adding up Approximation 2's variances of all layers overstates the sd at layer {layer} by more than 5 %.",
            math.sqrt(here["summed_variance"].sel(predictor="finite-width-linear").item()),
            (1.05, math.inf),
        )
    )
    return claims


def density_claims(histograms: xr.Dataset) -> list[Claim]:
    """Judge whether the ensemble can be told from the predicted densities."""
    claims = []
    for number in range(histograms.sizes["panel"]):
        panel = histograms.isel(panel=number)
        layer, theta0, n = (panel[name].item() for name in ("layer", "theta0", "n_samples"))
        for method in panel["predictor"].values.tolist():
            distance, p_value = (panel[name].sel(predictor=method).item() for name in ("ks_statistic", "ks_p_value"))
            if math.isnan(p_value):
                continue
            statement = (
                f"The density of {DENSITY_NAMES[method]} at layer {layer} for θ₀ = {angle_text(theta0)} is not"
                f" rejected by {n:,} networks (Kolmogorov-Smirnov test of level {REJECTION_LEVEL:g})."
            )
            allowed = (REJECTION_LEVEL, math.inf)
            claims.append(exact_claim(statement, p_value, allowed, f"p-value; D = {distance:.4f}"))
    return claims


def training_claims(training: xr.Dataset) -> list[Claim]:
    """Judge how well the predicted angles rank the architectures by accuracy."""
    finite, infinite = (training["spearman"].sel(predictor=name).item() for name in ("finite-width", "infinite-width"))
    lows = training["spearman_low"].sel(predictor="finite-width").item()
    highs = training["spearman_high"].sel(predictor="finite-width").item()
    difference = training["spearman_difference"].item()
    interval = (training["spearman_difference_low"].item(), training["spearman_difference_high"].item())
    n = training["n_ranked"].item()
    return [
        Claim(
            "The finite-width prediction of X_L ranks the architectures by accuracy: Spearman's rho is at least 0.8.",
            finite,
            (lows, highs),
            (SPEARMAN_BOUND, 1.0),
            f"{n} architectures",
        ),
        Claim(
            "It ranks them better than the infinite-width prediction, which knows only the depth: the difference of"
            " their rho is positive.",
            difference,
            interval,
            (0.0, 2.0),
            f"{finite:.3f} and {infinite:.3f}, paired",
        ),
    ]


def many_inputs_claims(gram: xr.Dataset) -> list[Claim]:
    """Judge the limit of infinite width, and the law of small angles, on many inputs at once."""
    last = gram.isel(layer=-1)
    layer, width, n_inputs = int(last["layer"]), int(last["width"][-1]), gram.attrs["n_inputs"]
    wide = last.isel(width=-1)
    volume, near = wide["log_determinant_mean"].item(), wide["near_log_determinant_mean"].item()
    rank = wide["effective_rank_mean"].item()
    ratio = wide["effective_rank"].item() / rank
    return [
        estimated_claim(
            f"The infinite-width limit overstates ln det of the Gram matrix of {n_inputs} inputs, behind layer"
            f" {layer} of width {width}, by more than 2: as volumes go, more than e times.",
            wide["log_determinant"].item() - volume,
            wide["log_determinant_standard_error"].item(),
            (2.0, math.inf),
            f"{wide['log_determinant'].item():.2f} against {volume:.2f}",
        ),
        estimated_claim(
            "In the effective rank of the same matrix, (tr Q)²/tr Q², the two differ by less than 1 %.",
            ratio,
            ratio * wide["effective_rank_standard_error"].item() / rank,
            (0.99, 1.01),
            f"{wide['effective_rank'].item():.4f} against {rank:.4f}",
        ),
        estimated_claim(
            f"From {n_inputs} inputs 10⁻⁴ apart, the small-angle law for many inputs gives ln det at layer {layer}"
            f" within {MANY_TOLERANCE:g}.",
            wide["near_law"].item() - near,
            wide["near_log_determinant_standard_error"].item(),
            (-MANY_TOLERANCE, MANY_TOLERANCE),
            f"{wide['near_law'].item():.2f} against {near:.2f}",
        ),
    ]


def angle_text(theta0: float) -> str:
    """Return an angle as text, a small power of ten as such: 0.1, 10⁻⁶."""
    exponent = round(math.log10(theta0))
    if exponent > -3 or not math.isclose(theta0, 10.0**exponent):
        return f"{theta0:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
