// Descent by the gradients of whole batches, for networks of any depth.
#pragma once

#include <vector>

#include "batch_gradient.hpp"
#include "training_group.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Sums of gradients over visits, for both halves of a group.
template <class Phi>
class GradientSum {
  public:
    GradientSum(const GroupContext& context, std::uint64_t first_network, Phi phi)
        : context_(context),
          staged_(context.run.visits, first_network),
          gradient_(context.run.network, phi),
          used_(context.networks > 8 ? 2 : 1) {
        for (auto& half : sums_) half.resize(context.run.network.parameters());
    }

    // Halves with networks.
    int used() const { return used_; }

    // False if the run was stopped. `good` says where all outputs were of a size that can be.
    bool add_up(const EightLanes* const parameters[2], VisitRange visits, i64 good[2]) {
        for (int h = 0; h < used_; ++h) {
            std::fill(sums_[h].begin(), sums_[h].end(), EightLanes{});
            good[h] = ~i64{};
        }
        for (std::uint32_t k = 0; k < visits.count; k += staged_.capacity()) {
            if (context_.stopped()) return false;
            const std::uint32_t count = std::min(staged_.capacity(), visits.count - k);
            staged_.take(visits.first + k, count);
            for (int h = 0; h < used_; ++h)
                good[h] &= gradient_.add(parameters[h], staged_.x(h), staged_.y(h), count, sums_[h].data());
        }
        return true;
    }

    // Calls body(parameter, sum, rate) for every parameter of a half, with its factor of the learning rate times `by`.
    template <class Body>
    WIDEANGLE_INLINE void for_parameters(int half, double by, Body&& body) const {
        const TrainedNetwork& network = context_.run.network;
        std::size_t p = 0;
        for (std::size_t l = 1; l < network.sizes.size(); ++l) {
            const std::size_t biases = p + std::size_t{network.sizes[l - 1]} * network.sizes[l];
            const std::size_t end = biases + network.sizes[l];
            for (const double rate = by * network.weight_rates[l - 1]; p < biases; ++p) body(p, sums_[half][p].get(), rate);
            for (const double rate = by * network.bias_rates[l - 1]; p < end; ++p) body(p, sums_[half][p].get(), rate);
        }
    }

  private:
    const GroupContext& context_;
    Staged staged_;
    BatchGradient<Phi> gradient_;
    const int used_;
    std::vector<EightLanes> sums_[2];
};

template <class Phi>
class BatchDescent final : public Training {
  public:
    BatchDescent(const GroupContext& context, std::uint64_t first_network, Phi phi)
        : context_(context), sum_(context, first_network, phi) {}

    void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) override {
        EightLanes* const parameters[2] = {halves[0].parameters.data(), halves[1].parameters.data()};
        for (; from < to; ++from) {
            const VisitRange visits = visits_of_step(context_.run.visits, from);
            i64 good[2];
            if (!sum_.add_up(parameters, visits, good)) return;
            for (int h = 0; h < sum_.used(); ++h) {
                halves[h].alive &= good[h];
                halves[h].good -= halves[h].alive;
                sum_.for_parameters(h, context_.run.learning_rate / visits.count,
                                    [&](std::size_t p, f64 gradient, double rate) __attribute__((always_inline)) {
                                        parameters[h][p].set(parameters[h][p].get() - rate * gradient);
                                    });
            }
            context_.report(1);
        }
    }

  private:
    const GroupContext& context_;
    GradientSum<Phi> sum_;
};

}  // namespace wideangle::WIDEANGLE_PATH
