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

namespace wideangle::WIDEANGLE_PATH {

// Whether phi(z) and phi'(z) cost so little that both are made again of z when they are needed.
template <class Phi>
constexpr bool is_piecewise_linear =
    std::is_same_v<Phi, Relu> || std::is_same_v<Phi, LeakyRelu> || std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

// Learning rates of the parameters by kind, and which outputs were of a size that can be.
struct SingleRates {
    double weight, bias, readout_weight, readout_bias;
};

// `features` is the number of inputs if it is known beforehand, else 0.
template <class Phi, int features>
class SingleSample {
  public:
    // Of hidden units: z, or phi(z) and phi'(z), (unit, 2).
    static constexpr std::size_t kept = is_piecewise_linear<Phi> ? 1 : 2;

    SingleSample(const TrainedNetwork& network, Phi phi, const SingleRates& rates)
        : phi_(phi), loss_(network.loss), inputs_(network.sizes[0]), units_(network.sizes[1]), rates_(rates) {
        for (auto& half : kept_) half.resize(units_ * kept);
        step_x_.resize(inputs_);
    }

    // For each half x (step, feature), y (step). Adds to `good` the steps before the first output that cannot be.
    void descend(EightLanes* const parameters[2], const EightLanes* const x[2], const EightLanes* const y[2],
                 std::uint32_t steps, i64 alive[2], i64 good[2]) {
        if (steps == 0) return;
        f64 first = forward(parameters[0], x[0], kept_[0].data());
        for (std::uint32_t t = 0;;) {
            const f64 by_first = judge(first, y[0][t], alive[0], good[0]);
            const f64 second = forward(parameters[1], x[1] + t * inputs(), kept_[1].data());
            const f64 by_second = judge(second, y[1][t], alive[1], good[1]);
            backward(parameters[0], x[0] + t * inputs(), kept_[0].data(), by_first);
            const std::uint32_t now = t++;
            if (t < steps) first = forward(parameters[0], x[0] + t * inputs(), kept_[0].data());
            backward(parameters[1], x[1] + now * inputs(), kept_[1].data(), by_second);
            if (t == steps) return;
        }
    }

  private:
    WIDEANGLE_INLINE std::size_t inputs() const { return features > 0 ? features : inputs_; }

    WIDEANGLE_INLINE f64 judge(f64 f, const EightLanes& y, i64& alive, i64& good) const {
        alive &= is_less_equal(magnitude(f), largest_output);
        good -= alive;
        return loss_derivative(loss_, f, y.get());
    }

    WIDEANGLE_INLINE f64 forward(const EightLanes* parameters, const EightLanes* x, EightLanes* keep) const {
        const std::size_t d = inputs(), n = units_;
        const EightLanes *weights = parameters, *biases = weights + n * d, *readout = biases + n;
        f64 sum[4] = {readout[n].get(), f64{}, f64{}, f64{}};
        const auto unit = [&](std::size_t i, f64& to) __attribute__((always_inline)) {
            f64 z = biases[i].get();
            for (std::size_t j = 0; j < d; ++j) z += weights[i * d + j].get() * x[j].get();
            const f64 h = phi_.value(z);
            keep[kept * i].set(is_piecewise_linear<Phi> ? z : h);
            if constexpr (!is_piecewise_linear<Phi>) keep[kept * i + 1].set(phi_.derivative(z));
            to += readout[i].get() * h;
        };
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4)
            for (std::size_t k = 0; k < 4; ++k) unit(i + k, sum[k]);
        for (; i < n; ++i) unit(i, sum[i % 4]);
        return (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }

    WIDEANGLE_INLINE void backward(EightLanes* parameters, const EightLanes* x, const EightLanes* keep, f64 by_output) {
        const std::size_t d = inputs(), n = units_;
        EightLanes *weights = parameters, *biases = weights + n * d, *readout = biases + n;
        for (std::size_t j = 0; j < d; ++j) step_x_[j].set(x[j].get() * rates_.weight);
        const f64 by_readout = by_output * rates_.readout_weight;
        for (std::size_t i = 0; i < n; ++i) {
            const f64 first = keep[kept * i].get(), a = readout[i].get();
            f64 h, by_z;
            if constexpr (is_piecewise_linear<Phi>) {
                h = phi_.value(first);
                by_z = by_output * a * phi_.derivative(first);
            } else {
                h = first;
                by_z = by_output * a * keep[kept * i + 1].get();
            }
            readout[i].set(a - by_readout * h);
            biases[i].set(biases[i].get() - by_z * rates_.bias);
            for (std::size_t j = 0; j < d; ++j)
                weights[i * d + j].set(weights[i * d + j].get() - by_z * step_x_[j].get());
        }
        readout[n].set(readout[n].get() - by_output * rates_.readout_bias);
    }

    const Phi phi_;
    const TrainingLoss loss_;
    const std::size_t inputs_, units_;
    const SingleRates rates_;
    std::vector<EightLanes> kept_[2];
    std::vector<EightLanes> step_x_;
};

}  // namespace wideangle::WIDEANGLE_PATH
