// Steps on single samples for a network of one hidden layer: forward, loss, backward and update in one go, in place.
//
// What a step must do at least, per hidden unit of d inputs and a register of networks: d + 2 parameters are read twice
// and written once; 2 d + 3 products and as many sums and differences; one pre-activation is kept. For 2-20-1 with ReLU
// on Zen 5: with AVX-512 120 stores, one a cycle, 160 to 200 loads and as many products, two a cycle: 110 cycles for
// eight networks. With AVX2 380 operations, comparisons and masks among them, four a cycle: 95 cycles for four networks.
//
// Sixteen networks take turns, as many at a time as a register holds, so that the long chain of operations from an
// output to its loss's derivative runs beside the work of the others.
#pragma once

#include <cstdint>
#include <cstring>

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
                 std::uint32_t steps, i64 (&alive)[2], i64 (&good)[2]) {
        constexpr int turns = 2 * eight_parts;
        r64 by_output[turns] = {};
        const auto judge = [&](int turn, std::uint32_t t, r64 f) __attribute__((always_inline)) {
            const auto is = get_part<signed_of<r64>>(alive, turn) & is_less_equal(magnitude(f), largest_output);
            set_part(alive, turn, is);
            set_part(good, turn, get_part<signed_of<r64>>(good, turn) - is);
            by_output[turn] = loss_derivative(loss_, f, y[turn / eight_parts][t].get(turn % eight_parts));
        };
        const auto at = [&](int turn, std::uint32_t t) { return x[turn / eight_parts] + t * inputs(); };
        for (int turn = 0; turn < turns; ++turn)
            judge(turn, 0, pass<false, true>(turn, parameters, r64{}, nullptr, at(turn, 0)));
        for (std::uint32_t t = 1; t < steps; ++t)
            for (int turn = 0; turn < turns; ++turn)
                judge(turn, t, pass<true, true>(turn, parameters, by_output[turn], at(turn, t - 1), at(turn, t)));
        for (int turn = 0; turn < turns; ++turn)
            pass<true, false>(turn, parameters, by_output[turn], at(turn, steps - 1), nullptr);
    }

  private:
    // Inputs times a factor: in registers if there are few, else in `room`, or where they are if the factor is 1.
    class Inputs {
      public:
        WIDEANGLE_INLINE Inputs(const SingleSample& at, int part, const EightLanes* x, double factor, EightLanes* room)
            : x_(x), part_(part) {
            if (x == nullptr) return;
            for (int j = 0; j < features; ++j) value_[j] = factor * x[j].get(part);
            if (features > 0 || room == nullptr) return;
            for (std::size_t j = 0; j < at.inputs_; ++j) room[j].set(part, factor * x[j].get(part));
            x_ = room;
        }
        WIDEANGLE_INLINE r64 operator[](std::size_t j) const { return features > 0 ? value_[j] : x_[j].get(part_); }

      private:
        const EightLanes* x_;
        int part_;
        r64 value_[features > 0 ? features : 1];
    };

    WIDEANGLE_INLINE std::size_t inputs() const { return features > 0 ? features : inputs_; }

    // Learns from the last sample, and looks at the next one, of which it returns the outputs.
    template <bool learns, bool looks>
    WIDEANGLE_INLINE r64 pass(int turn, EightLanes* const parameters[2], r64 by_output, const EightLanes* last,
                              const EightLanes* next) {
        const int part = turn % eight_parts;
        EightLanes* const keep = kept_[turn / eight_parts].data();
        const std::size_t d = inputs(), n = units_;
        EightLanes *weights = parameters[turn / eight_parts], *biases = weights + n * d, *readout = biases + n;
        const Inputs after(*this, part, next, 1.0, nullptr);
        const Inputs before(*this, part, last, rates_.weight, step_x_.data());
        const r64 by_readout = by_output * rates_.readout_weight;
        const auto take = [&]<class V>(std::size_t i, V to) __attribute__((always_inline)) {
            V a = get_units<V>(part, readout + i), b = get_units<V>(part, biases + i), by_z{};
            if constexpr (learns) {
                const V h = get_units<V>(part, keep + kept * i, kept);
                if constexpr (kept == 1)
                    by_z = times_slope_of_value<Phi>(a * by_output, h);
                else
                    by_z = a * by_output * get_units<V>(part, keep + kept * i + 1, kept);
                a -= h * by_readout;
                b -= by_z * rates_.bias;
                set_units(part, readout + i, a);
                set_units(part, biases + i, b);
            }
            V z = b;
            for (std::size_t j = 0; j < d; ++j) {
                V w = get_units<V>(part, weights + i * d + j, d);
                if constexpr (learns) {
                    w -= by_z * before[j];
                    set_units(part, weights + i * d + j, w, d);
                }
                if constexpr (looks) z += w * after[j];
            }
            if constexpr (looks) {
                const V h = phi_.value(z);
                set_units(part, keep + kept * i, h, kept);
                if constexpr (kept > 1) set_units(part, keep + kept * i + 1, phi_.derivative(z), kept);
                to += a * h;
            }
            return to;
        };
        constexpr std::size_t taken = units_in<Units<Phi>>;
        Units<Phi> sums[4 / taken] = {};
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4)
            for (std::size_t k = 0; k < 4; k += taken) sums[k / taken] = take(i + k, sums[k / taken]);
        r64 sum[4];
        std::memcpy(sum, sums, sizeof sum);
        for (; i < n; ++i) sum[i % 4] = take(i, sum[i % 4]);
        const r64 bias = readout[n].get(part) - by_output * rates_.readout_bias;
        if constexpr (learns) readout[n].set(part, bias);
        return bias + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }

    const Phi phi_;
    const TrainingLoss loss_;
    const std::size_t inputs_, units_;
    const SingleRates rates_;
    std::vector<EightLanes> kept_[2], step_x_;
};

}  // namespace wideangle::WIDEANGLE_PATH
