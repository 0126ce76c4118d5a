// One layer of the angle chain for sixteen samples: what the ensemble calls, once per instruction set.
#pragma once

#include <atomic>
#include <cstdint>

namespace wideangle {

constexpr int angle_lanes = 16;

enum class PairStatus : std::uint32_t { alive = 0, collapsed = 1, dead = 2 };

// Sixteen pairs of inputs after some layer. log_sin2 carries X = ln sin^2(theta) past the point where theta underflows.
struct alignas(64) AngleState {
    double theta[angle_lanes];        // angle, at most pi/2 after the first layer
    double cosine_half[angle_lanes];  // cos(theta/2)
    double sine_half[angle_lanes];    // sin(theta/2)
    double flatness[angle_lanes];     // sin^2(theta)/theta^2
    double log_sin2[angle_lanes];
    double log_norm2[angle_lanes];    // ln of the first input's squared norm over its value at layer 0
    double log_norm2_b[angle_lanes];  // of the second input's, if asked for
    std::uint32_t status[angle_lanes];
};

struct AngleLayer {
    std::uint64_t seed;
    std::uint64_t first_sample;  // a multiple of 16
    std::uint32_t layer;         // 1 for the first hidden layer
    std::uint32_t width;
    double weight_variance;
    // Whether to carry the second norm too. Both are then set, -inf if dead, in the layer where a pair dies or collapses.
    bool both_norms = false;
};

AngleState initial_angle_state(double theta0);

// Advances every living pair by one layer. If stop is set meanwhile the state is left unusable.
using AngleStepFunction = void (*)(AngleState&, const AngleLayer&, const std::atomic<bool>& stop);

}  // namespace wideangle
