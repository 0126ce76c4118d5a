// Derivatives of the losses by the output, in lanes.
#pragma once

#include "activations.hpp"
#include "training_step.hpp"

namespace wideangle::WIDEANGLE_PATH {

// An output beyond it has diverged: its square is still a number.
constexpr double largest_output = 1e100;

// exp(x) for -708 <= x <= 709, 0 below: exp64 with a shorter chain of operations, since nothing runs beside it.
template <class V>
WIDEANGLE_INLINE V quick_exp64(V x) {
    // (exp(r) - 1 - r)/r^2, as in exp_parts64, in pairs of coefficients.
    constexpr double shifter = 0x1.8p52;
    const V shifted = x * 1.4426950408889634074 + shifter;
    const V k = shifted - shifter;
    const V r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    const V r2 = r * r, r4 = r2 * r2;
    const V low = (0.50000000000000010211 + r * 0.16666666666666667452) +
                  r2 * (0.041666666666624161903 + r * 0.0083333333333300644495);
    const V middle = (0.0013888888917196719077 + r * 0.00019841269863040545271) +
                     r2 * (0.000024801521322368693266 + r * 2.7557268480310025526e-6);
    const V high = 2.7620075879983366586e-7 + r * 2.5100375832561233664e-8;
    const V scale = bits_as<V>((bits_as<unsigned_of<V>>(shifted) << 52) + 0x3ff0000000000000ULL);
    const V rest = r + r2 * (low + r4 * (middle + r4 * high));
    return keep(~is_less(x, -708.0), scale + scale * rest);
}

template <class V>
WIDEANGLE_INLINE V loss_derivative(TrainingLoss loss, V f, V y) {
    const V margin = y * f;
    switch (loss) {
        case TrainingLoss::cross_entropy: {
            // exp of what is never positive: no overflow, and the small end keeps its relative accuracy.
            const V fall = quick_exp64(-magnitude(margin));
            return -y * select(is_less(0.0, margin), fall, broadcast<V>(1.0)) / (1.0 + fall);
        }
        case TrainingLoss::hinge: return keep(is_less(margin, 1.0), -y);
        case TrainingLoss::exponential:
            return -y * quick_exp64(select(is_less(margin, -709.0), broadcast<V>(709.0), -margin));
        default: return f - y;
    }
}

}  // namespace wideangle::WIDEANGLE_PATH
