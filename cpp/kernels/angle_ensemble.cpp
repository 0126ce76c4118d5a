#include "angle_ensemble.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "ordered_blocks.hpp"
#include "vector_math.hpp"

namespace wideangle {

AngleState initial_angle_state(double theta0) {
    using namespace WIDEANGLE_PATH;
    // From the nearer of 0 and pi, so that both half-angle functions keep their relative accuracy.
    const double delta = (3.14159265358979311600 - theta0) + 1.22464679914735317723e-16;
    const bool obtuse = theta0 > delta;
    const SinCos64 near = sincos64(broadcast64(0.5 * (obtuse ? delta : theta0)));
    const double sine_half = obtuse ? near.cosine[0] : near.sine[0];
    const double cosine_half = obtuse ? near.sine[0] : near.cosine[0];
    const double ratio = theta0 > 1e-150 ? 2 * sine_half * cosine_half / theta0 : 1.0;
    // Tiny angles are their own sines; scaled by 2^200, subnormal ones have a logarithm too.
    const double log_sine = theta0 > 1e-150
                                ? log64(broadcast64(2 * sine_half * cosine_half))[0]
                                : log64(broadcast64(theta0 * 0x1p200))[0] - 200 * 0.69314718055994530942;
    AngleState state{};
    for (int i = 0; i < angle_lanes; ++i) {
        state.theta[i] = theta0;
        state.cosine_half[i] = cosine_half;
        state.sine_half[i] = sine_half;
        state.flatness[i] = ratio * ratio;
        state.log_sin2[i] = std::min(2 * log_sine, 0.0);
    }
    return state;
}

namespace {

constexpr int block_samples = 256;
constexpr int block_groups = block_samples / angle_lanes;

// What one block of samples contributes, in the order of the blocks.
struct BlockResult {
    std::vector<CentralMoments> log_sin2, log_norm2;
    std::vector<std::uint64_t> collapsed, dead;
};

struct Histogram {
    std::vector<std::uint64_t> counts, underflow, overflow;
};

class Run {
  public:
    Run(const AngleEnsemble& ensemble, AngleMoments& moments, const AngleSamples& samples)
        : ensemble_(ensemble),
          moments_(moments),
          samples_(samples),
          layers_(ensemble.widths.size() + 1),
          end_(ensemble.first_sample + ensemble.samples),
          first_block_(ensemble.first_sample / block_samples),
          last_block_((end_ - 1) / block_samples),
          start_(initial_angle_state(ensemble.theta0)),
          histograms_(static_cast<std::size_t>(ensemble.threads)) {
        moments_.log_sin2.assign(layers_, {});
        moments_.log_norm2.assign(layers_, {});
        moments_.collapsed.assign(layers_, 0);
        moments_.dead.assign(layers_, 0);
        for (Histogram& histogram : histograms_) reset(histogram);
    }

    bool finish(const Watcher& watcher) {
        OrderedBlocks<BlockResult> blocks(
            last_block_ - first_block_ + 1, ensemble_.threads,
            [this](std::uint64_t block, const BlockContext& context) { return run_block(first_block_ + block, context); },
            [this](BlockResult&& part) { merge(part); });
        if (!blocks.finish(watcher)) return false;
        for (std::size_t thread = 1; thread < histograms_.size(); ++thread) add(histograms_[0], histograms_[thread]);
        moments_.histogram = std::move(histograms_[0].counts);
        moments_.underflow = std::move(histograms_[0].underflow);
        moments_.overflow = std::move(histograms_[0].overflow);
        return true;
    }

  private:
    void merge(const BlockResult& part) {
        for (std::size_t layer = 0; layer < layers_; ++layer) {
            moments_.log_sin2[layer].merge(part.log_sin2[layer]);
            moments_.log_norm2[layer].merge(part.log_norm2[layer]);
            moments_.collapsed[layer] += part.collapsed[layer];
            moments_.dead[layer] += part.dead[layer];
        }
    }

    BlockResult run_block(std::uint64_t block, const BlockContext& context) {
        Histogram& histogram = histograms_[static_cast<std::size_t>(context.thread)];
        BlockResult result{std::vector<CentralMoments>(layers_), std::vector<CentralMoments>(layers_),
                           std::vector<std::uint64_t>(layers_), std::vector<std::uint64_t>(layers_)};
        const std::uint64_t block_start = block * block_samples;
        // The part of the block that was asked for; groups of lanes outside it are not computed at all.
        const int begin = static_cast<int>(std::max(block_start, ensemble_.first_sample) - block_start);
        const int end = static_cast<int>(std::min(block_start + block_samples, end_) - block_start);
        AngleState groups[block_groups];
        std::fill(groups, groups + block_groups, start_);
        reduce(groups, begin, end, block_start, 0, result, histogram);
        for (std::uint32_t layer = 1; layer < layers_; ++layer) {
            for (int group = begin / angle_lanes; group * angle_lanes < end; ++group) {
                const AngleLayer at{ensemble_.seed, block_start + static_cast<std::uint64_t>(group) * angle_lanes, layer,
                                    ensemble_.widths[layer - 1], ensemble_.weight_variance};
                ensemble_.angle_step(groups[group], at, context.stop);
                if (context.stop.load(std::memory_order_relaxed)) return result;
            }
            reduce(groups, begin, end, block_start, layer, result, histogram);
        }
        context.done.fetch_add(static_cast<std::uint64_t>(end - begin));
        return result;
    }

    void reduce(const AngleState* groups, int begin, int end, std::uint64_t block_start, std::uint32_t layer,
                BlockResult& result, Histogram& histogram) const {
        alignas(64) double log_sin2[block_samples], log_norm2[block_samples];
        int alive = 0;
        std::uint64_t collapsed = 0, dead = 0;
        for (int i = begin; i < end;) {
            const AngleState& group = groups[i / angle_lanes];
            if (i % angle_lanes == 0 && i + angle_lanes <= end && all_alive(group)) {
                std::memcpy(log_sin2 + alive, group.log_sin2, sizeof group.log_sin2);
                std::memcpy(log_norm2 + alive, group.log_norm2, sizeof group.log_norm2);
                alive += angle_lanes;
                i += angle_lanes;
                continue;
            }
            const int lane = i++ % angle_lanes;
            log_sin2[alive] = group.log_sin2[lane];
            log_norm2[alive] = group.log_norm2[lane];
            const auto status = static_cast<PairStatus>(group.status[lane]);
            alive += status == PairStatus::alive;
            collapsed += status == PairStatus::collapsed;
            dead += status == PairStatus::dead;
        }
        result.collapsed[layer] = collapsed;
        result.dead[layer] = dead;
        if (ensemble_.bins.count > 0) fill(histogram, log_sin2, alive, layer);
        if (samples_.log_sin2 != nullptr) write(groups, begin, end, block_start, layer);
        result.log_sin2[layer] = WIDEANGLE_PATH::central_moments(log_sin2, alive);
        result.log_norm2[layer] = WIDEANGLE_PATH::central_moments(log_norm2, alive);
    }

    static bool all_alive(const AngleState& group) {
        std::uint32_t any = 0;
        for (int lane = 0; lane < angle_lanes; ++lane) any |= group.status[lane];
        return any == static_cast<std::uint32_t>(PairStatus::alive);
    }

    void write(const AngleState* groups, int begin, int end, std::uint64_t block_start, std::uint32_t layer) const {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
        for (int i = begin; i < end; ++i) {
            const AngleState& group = groups[i / angle_lanes];
            const int lane = i % angle_lanes;
            const auto status = static_cast<PairStatus>(group.status[lane]);
            const std::uint64_t row = block_start + static_cast<std::uint64_t>(i) - ensemble_.first_sample;
            const std::size_t at = row * layers_ + layer;
            samples_.log_sin2[at] = status == PairStatus::alive       ? group.log_sin2[lane]
                                    : status == PairStatus::collapsed ? -infinity
                                                                      : undefined;
            samples_.log_norm2[at] = status == PairStatus::alive ? group.log_norm2[lane] : undefined;
            if (layer + 1 == layers_) samples_.status[row] = static_cast<std::uint8_t>(status);
        }
    }

    void reset(Histogram& histogram) const {
        if (ensemble_.bins.count == 0) return;
        histogram.counts.assign(layers_ * static_cast<std::size_t>(ensemble_.bins.count), 0);
        histogram.underflow.assign(layers_, 0);
        histogram.overflow.assign(layers_, 0);
    }

    static void add(Histogram& to, const Histogram& from) {
        for (std::size_t i = 0; i < to.counts.size(); ++i) to.counts[i] += from.counts[i];
        for (std::size_t i = 0; i < to.underflow.size(); ++i) {
            to.underflow[i] += from.underflow[i];
            to.overflow[i] += from.overflow[i];
        }
    }

    void fill(Histogram& histogram, const double* values, int count, std::uint32_t layer) const {
        const HistogramBins& bins = ensemble_.bins;
        const double scale = bins.count / (bins.high - bins.low);
        std::uint64_t* row = histogram.counts.data() + layer * static_cast<std::size_t>(bins.count);
        for (int i = 0; i < count; ++i) {
            const double x = values[i];
            if (x < bins.low)
                ++histogram.underflow[layer];
            else if (x >= bins.high)
                ++histogram.overflow[layer];
            else
                ++row[std::min(static_cast<int>((x - bins.low) * scale), bins.count - 1)];
        }
    }

    const AngleEnsemble& ensemble_;
    AngleMoments& moments_;
    const AngleSamples& samples_;
    const std::size_t layers_;
    const std::uint64_t end_, first_block_, last_block_;
    const AngleState start_;
    std::vector<Histogram> histograms_;  // one a thread
};

}  // namespace

bool simulate_angles(const AngleEnsemble& ensemble, AngleMoments& moments, const AngleSamples& samples,
                     const Watcher& watcher) {
    return Run(ensemble, moments, samples).finish(watcher);
}

}  // namespace wideangle
