// Sixteen networks in training: their state, the samples they are to meet, and what trains them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "layer_products.hpp"
#include "sample_visits.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Eight networks of a group and how far they have come.
struct Half {
    std::vector<EightLanes> parameters;
    i64 alive = ~i64{};  // where no output has been too large yet
    i64 good = {};       // steps before the first that was
};

// Inputs and labels of consecutive visits, each half with its own lanes.
class Staged {
  public:
    Staged(const SampleVisits& visits, std::uint64_t first_network)
        : visits_(visits), source_(visits, first_network) {
        constexpr std::size_t most = 16384;  // bytes that leave room in the first-level cache
        const std::size_t visit = (visits.features + std::size_t{1}) * training_lanes * sizeof(double);
        capacity_ = static_cast<std::uint32_t>(std::max(most / visit / sample_tile, std::size_t{1}) * sample_tile);
        for (auto& half : x_) half.resize(std::size_t{capacity_} * visits.features);
        for (auto& half : y_) half.resize(capacity_);
    }

    std::uint32_t capacity() const { return capacity_; }
    const EightLanes* x(int half) const { return x_[half].data(); }
    const EightLanes* y(int half) const { return y_[half].data(); }

    void take(std::uint64_t first, std::uint32_t count) {
        // The whole of the data, always the same.
        const bool fixed = visits_.order == SampleOrder::full && visits_.noise == 0 && count == visits_.samples;
        if (fixed && holds_all_) return;
        holds_all_ = fixed;
        switch (visits_.features) {
            case 1: return gather<1>(first, count);
            case 2: return gather<2>(first, count);
            default: return gather<0>(first, count);
        }
    }

  private:
    // `features` is their number if it is known beforehand, else 0.
    template <int features>
    void gather(std::uint64_t first, std::uint32_t count) {
        const std::size_t d = features > 0 ? features : visits_.features;
        EightLanes* const x[2] = {x_[0].data(), x_[1].data()};
        const double *const from_x = visits_.x, *const from_y = visits_.y;
        EightLanes* const y[2] = {y_[0].data(), y_[1].data()};
        for (std::uint32_t k = 0; k < count; ++k) {
            const std::uint32_t* samples = source_.samples(first + k, k == 0);
            for (int lane = 0; lane < training_lanes; ++lane) {
                const double* from = from_x + samples[lane] * d;
                for (std::size_t j = 0; j < d; ++j) x[lane / 8][k * d + j].at[lane % 8] = from[j];
                y[lane / 8][k].at[lane % 8] = from_y[samples[lane]];
            }
            source_.disturb(first + k, k == 0, y[0][k].at, y[1][k].at);
        }
    }

    const SampleVisits& visits_;
    VisitSource source_;
    std::uint32_t capacity_;
    bool holds_all_ = false;
    std::vector<EightLanes> x_[2], y_[2];  // (visit, feature) and (visit)
};

// What takes a group from one step to another. Called once between two records.
class Training {
  public:
    virtual ~Training() = default;
    virtual void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) = 0;
};

struct GroupContext {
    const TrainingRun& run;
    int networks;
    const std::atomic<bool>& stop;
    std::atomic<std::uint64_t>& done;

    bool stopped() const { return stop.load(std::memory_order_relaxed); }
    void report(std::uint64_t steps) const { done.fetch_add(steps * static_cast<std::uint64_t>(networks)); }
};

}  // namespace wideangle::WIDEANGLE_PATH
