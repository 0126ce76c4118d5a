// Every activation and derivative against the C library in long double.
#include "activations.hpp"

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "check.hpp"

using namespace wideangle;
using namespace wideangle::WIDEANGLE_PATH;

namespace {

using Real = long double;
constexpr double slope = 0.3;
constexpr double unit = 2.220446049250313e-16;

Real cdf(Real x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
Real density(Real x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846264338327950288L); }
Real gate(Real x) { return 1 / (1 + std::exp(-x)); }

Real value(Activation kind, Real x) {
    switch (kind) {
        case Activation::relu: return x > 0 ? x : 0;
        case Activation::leaky_relu: return x > 0 ? x : slope * x;
        case Activation::abs: return std::fabs(x);
        case Activation::linear: return x;
        case Activation::erf: return std::erf(x);
        case Activation::tanh: return std::tanh(x);
        case Activation::gelu: return x * cdf(x);
        case Activation::elu: return x > 0 ? x : std::expm1(x);
        case Activation::silu: return x * gate(x);
        case Activation::sin: return std::sin(x);
        case Activation::sigmoid: return gate(x);
    }
    return 0;
}

Real derivative(Activation kind, Real x) {
    switch (kind) {
        case Activation::relu: return x > 0 ? 1 : 0;
        case Activation::leaky_relu: return x > 0 ? 1 : slope;
        case Activation::abs: return x > 0 ? 1 : -1;
        case Activation::linear: return 1;
        case Activation::erf: return 2 / std::sqrt(3.14159265358979323846264338327950288L) * std::exp(-x * x);
        case Activation::tanh: return 1 / (std::cosh(x) * std::cosh(x));
        case Activation::gelu: return cdf(x) + x * density(x);
        case Activation::elu: return x > 0 ? 1 : std::exp(x);
        case Activation::silu: return gate(x) * (1 + x * gate(-x));
        case Activation::sin: return std::cos(x);
        case Activation::sigmoid: return gate(x) * gate(-x);
    }
    return 0;
}

// Allowed errors: relative, and absolute in units of max(1, |x|).
struct Tolerance {
    double relative, absolute;
};

Tolerance of_value(Activation kind) {
    switch (kind) {
        case Activation::leaky_relu: return {unit, 0};
        case Activation::erf: return {5 * unit, 0};
        case Activation::tanh: return {3 * unit, 0};
        case Activation::gelu: return {4 * unit, unit};
        case Activation::elu: return {2 * unit, 0};
        case Activation::silu: return {3 * unit, 1e-300};
        case Activation::sin: return {2 * unit, 1e-30};  // the rest of a multiple of pi
        case Activation::sigmoid: return {3 * unit, 1e-300};
        default: return {0, 0};
    }
}

Tolerance of_derivative(Activation kind, double x) {
    switch (kind) {
        case Activation::erf: return {(3 + x * x) * unit, 1e-300};
        case Activation::tanh: return {4 * unit, 1e-300};
        case Activation::gelu: return {4 * unit, 2 * unit};
        case Activation::elu: return {2 * unit, 1e-300};
        case Activation::silu: return {4 * unit, 2 * unit};
        case Activation::sin: return {2 * unit, 2 * unit};
        case Activation::sigmoid: return {4 * unit, 1e-300};
        default: return {0, 0};
    }
}

std::vector<double> arguments() {
    std::vector<double> xs = {0.0, 5e-324, 1e-310, 1e-300, 707.5, 708.5, 745.0, 1e4, 1e9};
    for (double x = 1e-20; x < 1e-3; x *= 1.9) xs.push_back(x);
    for (double x = 1e-3; x < 12; x += 1.37e-3) xs.push_back(x);
    for (double x = 12; x < 1e9; x *= 1.0173) xs.push_back(x);
    // Around multiples of pi/2, where a bad reduction shows.
    for (double k = 1; k < 6e8; k *= 1.31) xs.push_back(std::nearbyint(k) * 1.57079632679489661923);
    const std::size_t positive = xs.size();
    for (std::size_t i = 0; i < positive; ++i) xs.push_back(-xs[i]);
    return xs;
}

void against_library(Activation kind) {
    double worst_value = 0, worst_derivative = 0;
    with_activation(kind, slope, [&](auto phi) {
        for (const double x : arguments()) {
            const double scale = std::fmax(1.0, std::fabs(x));
            const Tolerance allowed = of_value(kind), slopes = of_derivative(kind, x);
            const auto expected = static_cast<double>(value(kind, x));
            const double found = phi.value(broadcast64(x))[3];
            CHECK_CLOSE(found, expected, allowed.relative * std::fabs(expected) + allowed.absolute * scale);
            // In units of the last place, of values that are not small beside what they are promised for.
            if (std::fabs(expected) > 1e-2 * scale || std::fabs(expected) > 1e-2)
                worst_value = std::fmax(worst_value, std::fabs(found - expected) / std::fabs(expected) / unit);
            const auto rise = static_cast<double>(derivative(kind, x));
            const double found_rise = phi.derivative(broadcast64(x))[6];
            CHECK_CLOSE(found_rise, rise, slopes.relative * std::fabs(rise) + slopes.absolute);
            worst_derivative = std::fmax(worst_derivative, std::fabs(found_rise - rise) / unit);
        }
        // Far out: finite, and NaN is not hidden.
        for (const double x : {1e12, 1e100, 1.7e308, -1e12, -1e100, -1.7e308}) {
            CHECK(std::isfinite(phi.value(broadcast64(x))[0]));
            CHECK(std::isfinite(phi.derivative(broadcast64(x))[0]));
        }
        CHECK(std::isnan(phi.value(broadcast64(std::numeric_limits<double>::quiet_NaN()))[0]));
    });
    std::printf("activation %d: value within %.2g units in the last place, derivative within %.2g of 1\n",
                static_cast<int>(kind), worst_value, worst_derivative);
}

void large_sines_are_bounded() {
    for (double x = 1e9; x < 1e308; x *= 3.7) {
        CHECK(std::fabs(sin64(broadcast64(x))[0]) <= 1 && std::fabs(cos64(broadcast64(-x))[0]) <= 1);
        CHECK(sin64(broadcast64(-x))[0] == -sin64(broadcast64(x))[0]);
    }
}

void signs_of_zero() {
    CHECK(std::signbit(tanh64(broadcast64(-0.0))[0]) && !std::signbit(tanh64(broadcast64(0.0))[0]));
    CHECK(std::signbit(erf64(broadcast64(-0.0))[0]) && !std::signbit(erf64(broadcast64(0.0))[0]));
}

void lanes_do_not_mix() {
    const f64 x = {-40.0, -3.0, -1e-9, 0.0, 0.2, 1.0, 7.0, 1e5};
    for (int kind = 0; kind < activation_count; ++kind)
        with_activation(static_cast<Activation>(kind), slope, [&](auto phi) {
            const f64 values = phi.value(x), rises = phi.derivative(x);
            for (int i = 0; i < 8; ++i) {
                CHECK(values[i] == phi.value(broadcast64(x[i]))[0]);
                CHECK(rises[i] == phi.derivative(broadcast64(x[i]))[0]);
            }
        });
}

}  // namespace

int main() {
    for (int kind = 0; kind < activation_count; ++kind) against_library(static_cast<Activation>(kind));
    large_sines_are_bounded();
    signs_of_zero();
    lanes_do_not_mix();
    return check::report();
}
