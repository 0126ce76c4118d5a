// Steps on single samples for a network of one hidden layer: forward, loss, backward and update in one go, in place.
//
// What a step must do at least, per hidden unit of d inputs and eight networks: d + 2 parameters are read twice and
// written once; 2 d + 3 products and as many sums and differences; one pre-activation is kept. For 2-20-1 with ReLU: 120
// stores, one a cycle on Zen 5, 160 to 200 loads and as many products, two a cycle: 110 cycles for eight networks.
//
// The two halves of sixteen networks take turns, so that the long chain of operations from an output to its loss's
// derivative runs beside the work of the other half.
#pragma once

#include <cstdint>

#include "layer_products.hpp"
#include "training_loss.hpp"
#include "unit_slopes.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Learning rates of the parameters by kind, and which outputs were of a size that can be.
struct SingleRates {
    double weight, bias, readout_weight, readout_bias;
};

// `features` is the number of inputs if it is known beforehand, else 0.
template <class Phi, int features>
class SingleSample {
  public:
    // Of hidden units: phi(z), and phi'(z) if need be.
    static constexpr std::size_t kept = value_tells_slope<Phi> ? 1 : 2;

    SingleSample(const TrainedNetwork& network, Phi phi, const SingleRates& rates)
        : phi_(phi), loss_(network.loss), inputs_(network.sizes[0]), units_(network.sizes[1]), rates_(rates) {
        for (auto& half : kept_) half.resize(units_ * kept);
        step_x_.resize(inputs_);
    }

    // For each half x (step, feature), y (step). Adds to `good` the steps before the first output that cannot be.
    void descend(EightLanes* const parameters[2], const EightLanes* const x[2], const EightLanes* const y[2],
                 std::uint32_t steps, i64 alive[2], i64 good[2]) {
        f64 by_output[2];
        const auto judge = [&](int h, std::uint32_t t, f64 f) __attribute__((always_inline)) {
            alive[h] &= is_less_equal(magnitude(f), largest_output);
            good[h] -= alive[h];
            by_output[h] = loss_derivative(loss_, f, y[h][t].get());
        };
        const auto at = [&](int h, std::uint32_t t) { return x[h] + t * inputs(); };
        for (int h = 0; h < 2; ++h)
            judge(h, 0, pass<false, true>(parameters[h], kept_[h].data(), f64{}, nullptr, at(h, 0)));
        for (std::uint32_t t = 1; t < steps; ++t)
            for (int h = 0; h < 2; ++h)
                judge(h, t, pass<true, true>(parameters[h], kept_[h].data(), by_output[h], at(h, t - 1), at(h, t)));
        for (int h = 0; h < 2; ++h)
            pass<true, false>(parameters[h], kept_[h].data(), by_output[h], at(h, steps - 1), nullptr);
    }

  private:
    // Inputs times a factor: in registers if there are few, else in `room`, or where they are if the factor is 1.
    class Inputs {
      public:
        WIDEANGLE_INLINE Inputs(const SingleSample& at, const EightLanes* x, double factor, EightLanes* room) : x_(x) {
            if (x == nullptr) return;
            for (int j = 0; j < features; ++j) value_[j] = factor * x[j].get();
            if (features > 0 || room == nullptr) return;
            for (std::size_t j = 0; j < at.inputs_; ++j) room[j].set(factor * x[j].get());
            x_ = room;
        }
        WIDEANGLE_INLINE f64 operator[](std::size_t j) const { return features > 0 ? value_[j] : x_[j].get(); }

      private:
        const EightLanes* x_;
        f64 value_[features > 0 ? features : 1];
    };

    WIDEANGLE_INLINE std::size_t inputs() const { return features > 0 ? features : inputs_; }

    // Learns from the last sample, and looks at the next one, of which it returns the outputs.
    template <bool learns, bool looks>
    WIDEANGLE_INLINE f64 pass(EightLanes* parameters, EightLanes* keep, f64 by_output, const EightLanes* last,
                              const EightLanes* next) {
        const std::size_t d = inputs(), n = units_;
        EightLanes *weights = parameters, *biases = weights + n * d, *readout = biases + n;
        const Inputs after(*this, next, 1.0, nullptr);
        const Inputs before(*this, last, rates_.weight, step_x_.data());
        const f64 by_readout = by_output * rates_.readout_weight;
        f64 sum[4] = {};
        const auto unit = [&](std::size_t i, f64& to) __attribute__((always_inline)) {
            f64 a = readout[i].get(), b = biases[i].get(), by_z{};
            if constexpr (learns) {
                const f64 h = keep[kept * i].get();
                if constexpr (kept == 1)
                    by_z = times_slope_of_value<Phi>(by_output * a, h);
                else
                    by_z = by_output * a * keep[kept * i + 1].get();
                a -= by_readout * h;
                b -= by_z * rates_.bias;
                readout[i].set(a);
                biases[i].set(b);
            }
            f64 z = b;
            for (std::size_t j = 0; j < d; ++j) {
                f64 w = weights[i * d + j].get();
                if constexpr (learns) {
                    w -= by_z * before[j];
                    weights[i * d + j].set(w);
                }
                if constexpr (looks) z += w * after[j];
            }
            if constexpr (looks) {
                const f64 h = phi_.value(z);
                keep[kept * i].set(h);
                if constexpr (kept > 1) keep[kept * i + 1].set(phi_.derivative(z));
                to += a * h;
            }
        };
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4)
            for (std::size_t k = 0; k < 4; ++k) unit(i + k, sum[k]);
        for (; i < n; ++i) unit(i, sum[i % 4]);
        const f64 bias = readout[n].get() - by_output * rates_.readout_bias;
        if constexpr (learns) readout[n].set(bias);
        return bias + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }

    const Phi phi_;
    const TrainingLoss loss_;
    const std::size_t inputs_, units_;
    const SingleRates rates_;
    std::vector<EightLanes> kept_[2], step_x_;
};

}  // namespace wideangle::WIDEANGLE_PATH
