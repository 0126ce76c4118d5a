// Derivatives of the losses by the output, in lanes.
#pragma once

#include "activations.hpp"
#include "training_step.hpp"

namespace wideangle::WIDEANGLE_PATH {

// An output beyond it has diverged: its square is still a number.
constexpr double largest_output = 1e100;

WIDEANGLE_INLINE f64 loss_derivative(TrainingLoss loss, f64 f, f64 y) {
    const f64 margin = y * f;
    switch (loss) {
        case TrainingLoss::cross_entropy: {
            // exp of what is never positive: no overflow, and the small end keeps its relative accuracy.
            const f64 fall = exp64(-magnitude(margin));
            return -y * select(is_less(0.0, margin), fall, broadcast64(1.0)) / (1.0 + fall);
        }
        case TrainingLoss::hinge: return keep(is_less(margin, 1.0), -y);
        case TrainingLoss::exponential:
            return -y * exp64(select(is_less(margin, -709.0), broadcast64(709.0), -margin));
        default: return f - y;
    }
}

}  // namespace wideangle::WIDEANGLE_PATH
