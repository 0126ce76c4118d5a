#include "gram_ensemble.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "vector_math.hpp"

namespace wideangle {
namespace {

using namespace WIDEANGLE_PATH;

constexpr double ln2 = 0.69314718055994530942;
constexpr double infinity = std::numeric_limits<double>::infinity();

// Groups of sixteen samples: their matrices and, for a pair of inputs, their angles.
struct Groups {
    Groups(std::size_t inputs_, std::size_t count)
        : inputs(inputs_), gram(triangle_size(inputs) * count), factor(gram.size()), place(inputs * count),
          state(count), angle(count), rank_lost(count) {
        for (std::size_t i = 0; i < count; ++i) set_arrays(i);
    }

    void set_arrays(std::size_t i) {
        state[i].inputs = inputs;
        state[i].gram = gram.data() + i * triangle_size(inputs);
        state[i].factor = factor.data() + i * triangle_size(inputs);
        state[i].place = place.data() + i * inputs;
    }

    // Makes every group a copy of the first one of another set.
    void fill(const Groups& from) {
        for (std::size_t i = 0; i < state.size(); ++i) {
            std::copy(from.gram.begin(), from.gram.end(), gram.begin() + static_cast<std::ptrdiff_t>(i * from.gram.size()));
            std::copy(from.factor.begin(), from.factor.end(),
                      factor.begin() + static_cast<std::ptrdiff_t>(i * from.factor.size()));
            std::copy(from.place.begin(), from.place.end(), place.begin() + static_cast<std::ptrdiff_t>(i * inputs));
            state[i] = from.state[0];
            angle[i] = from.angle[0];
            rank_lost[i] = from.rank_lost[0];
            set_arrays(i);
        }
    }

    std::size_t inputs;
    std::vector<GramLanes> gram, factor;
    std::vector<GramFlags> place;
    std::vector<GramState> state;
    std::vector<AngleState> angle;
    std::vector<GramFlags> rank_lost;  // at or before the layer
};

// ---- Two inputs, of which the angle kernel knows the angle and the norms

std::uint32_t any_lost(const AngleState& angle) {
    std::uint32_t any = 0;
    for (int lane = 0; lane < gram_lanes; ++lane) any |= angle.status[lane];
    return any;
}

// Writes the matrices of the pairs that were alive before this layer into the state; log_norm0 are the logarithms of the
// diagonal at layer 0. A collapsed pair is parallel, a dead one has a norm of -inf.
void write_pairs(const AngleState& angle, const GramFlags& was_lost, const double (&log_norm0)[2], GramState& to) {
    for (int h = 0; h < 2; ++h) {
        i64 lost, collapsed;
        for (int lane = 0; lane < 8; ++lane) {
            lost[lane] = was_lost.at[8 * h + lane] != 0 ? -1 : 0;
            collapsed[lane] = angle.status[8 * h + lane] == static_cast<std::uint32_t>(PairStatus::collapsed) ? -1 : 0;
        }
        const f64 log_a = load<f64>(angle.log_norm2 + 8 * h) + log_norm0[0];
        const f64 log_b = load<f64>(angle.log_norm2_b + 8 * h) + log_norm0[1];
        const f64 top = select(log_a > log_b, log_a, log_b);
        const f64 exponent = keep(top > -infinity, (top * (1 / ln2) + 0x1.8p52) - 0x1.8p52);
        const f64 a = exp64(log_a - exponent * ln2), b = exp64(log_b - exponent * ln2);
        const f64 cosine_half = load<f64>(angle.cosine_half + 8 * h), sine_half = load<f64>(angle.sine_half + 8 * h);
        const f64 cosine = (cosine_half - sine_half) * (cosine_half + sine_half);
        const f64 overlap = square_root(a * b) * select(collapsed, broadcast64(1.0), cosine);
        const auto put = [&](double* at, f64 value) { store(at + 8 * h, select(lost, load<f64>(at + 8 * h), value)); };
        put(to.gram[triangle_index(0, 0)].at, a);
        put(to.gram[triangle_index(1, 0)].at, overlap);
        put(to.gram[triangle_index(1, 1)].at, b);
        put(to.exponent.at, select(top > -infinity, exponent, broadcast64(gram_zero_exponent)));
    }
}

// Pairs that are alive have full rank, and their determinant is known beyond what the matrix resolves.
void write_determinants(const AngleState& angle, const double (&log_norm0)[2], GramState& to) {
    for (int lane = 0; lane < gram_lanes; ++lane) {
        if (angle.status[lane] != static_cast<std::uint32_t>(PairStatus::alive)) continue;
        to.rank.at[lane] = 2;
        to.log_determinant.at[lane] =
            angle.log_sin2[lane] + (angle.log_norm2[lane] + log_norm0[0]) + (angle.log_norm2_b[lane] + log_norm0[1]);
    }
}

// ---- The ensemble

GramMoments empty_moments(std::size_t inputs, std::size_t layers) {
    return {std::vector<CentralMoments>(layers * triangle_size(inputs)), std::vector<CentralMoments>(layers * inputs),
            std::vector<CentralMoments>(layers), std::vector<CentralMoments>(layers),
            std::vector<std::uint64_t>(layers)};
}

void merge(std::vector<CentralMoments>& to, const std::vector<CentralMoments>& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i].merge(from[i]);
}

class Run {
  public:
    Run(const GramEnsemble& ensemble, GramMoments& moments, const GramSamples& samples)
        : ensemble_(ensemble),
          moments_(moments),
          samples_(samples),
          inputs_(ensemble.inputs),
          layers_(ensemble.widths.size() + 1),
          block_samples_(groups_of_a_block(ensemble.inputs) * gram_lanes),
          end_(ensemble.first_sample + ensemble.samples),
          first_block_(ensemble.first_sample / block_samples_),
          last_block_((end_ - 1) / block_samples_),
          start_(inputs_, 1) {
        moments_ = empty_moments(inputs_, layers_);
        start();
    }

    bool finish(const Watcher& watcher) {
        OrderedBlocks<GramMoments> blocks(
            last_block_ - first_block_ + 1, ensemble_.threads,
            [this](std::uint64_t block, const BlockContext& context) { return run_block(first_block_ + block, context); },
            [this](GramMoments&& part) { add(part); }, reach());
        return blocks.finish(watcher);
    }

  private:
    // So many that the matrices of a block take some megabytes, if there is more than one.
    static std::uint64_t groups_of_a_block(std::size_t inputs) {
        constexpr std::size_t most = gram_block / gram_lanes;
        return std::clamp<std::size_t>(most * 1024 / (inputs * inputs), 1, most);
    }

    // Results that wait for a slow block take tens of megabytes together, if there is more than one.
    std::uint64_t reach() const {
        const std::size_t size = layers_ * (triangle_size(inputs_) + inputs_ + 3) * sizeof(CentralMoments);
        return std::clamp<std::size_t>((std::size_t{1} << 26) / size, 1, 256);
    }

    bool is_pair() const { return ensemble_.angle_step != nullptr; }

    GramLayer layer_at(std::uint64_t first_sample, std::uint32_t layer) const {
        return {ensemble_.seed,        first_sample,
                layer,                 layer == 0 ? 0 : ensemble_.widths[layer - 1],
                ensemble_.activation,  ensemble_.slope,
                ensemble_.weight_variance, ensemble_.bias_variance};
    }

    void start() {
        GramState& state = start_.state[0];
        double largest_norm = 0;
        for (std::size_t i = 0; i < inputs_; ++i)
            largest_norm = std::max(largest_norm, ensemble_.gram0[triangle_index(i, i)]);
        const int exponent = largest_norm > 0 ? std::ilogb(largest_norm) : 0;
        for (std::size_t entry = 0; entry < triangle_size(inputs_); ++entry)
            std::fill_n(state.gram[entry].at, gram_lanes, std::ldexp(ensemble_.gram0[entry], -exponent));
        std::fill_n(state.exponent.at, gram_lanes, largest_norm > 0 ? exponent : gram_zero_exponent);
        std::vector<GramLanes> scratch(gram_scratch_size(inputs_));
        ensemble_.kernels->measure(state, layer_at(0, 0), scratch.data(), std::atomic<bool>{false});
        if (is_pair()) {
            start_.angle[0] = initial_angle_state(ensemble_.theta0);
            for (std::size_t i = 0; i < 2; ++i)
                log_norm0_[i] = log64(broadcast64(state.gram[triangle_index(i, i)].at[0]))[0] + exponent * ln2;
            write_determinants(start_.angle[0], log_norm0_, state);
        }
        note_rank(start_, 0);
    }

    void note_rank(Groups& groups, std::size_t group) const {
        for (int lane = 0; lane < gram_lanes; ++lane)
            groups.rank_lost[group].at[lane] |= groups.state[group].rank.at[lane] < inputs_;
    }

    void advance(Groups& groups, std::size_t group, const GramLayer& at, GramLanes* scratch,
                 const std::atomic<bool>& stop) const {
        GramState& state = groups.state[group];
        if (is_pair()) {
            AngleState& angle = groups.angle[group];
            GramFlags was_lost;
            std::copy_n(angle.status, gram_lanes, was_lost.at);
            if (any_lost(angle)) ensemble_.kernels->step(state, at, scratch, stop);
            ensemble_.angle_step(angle, {at.seed, at.first_sample, at.layer, at.width, at.weight_variance, true}, stop);
            if (stop.load(std::memory_order_relaxed)) return;
            write_pairs(angle, was_lost, log_norm0_, state);
            ensemble_.kernels->measure(state, at, scratch, stop);
            write_determinants(angle, log_norm0_, state);
        } else {
            ensemble_.kernels->step(state, at, scratch, stop);
        }
        note_rank(groups, group);
    }

    GramMoments run_block(std::uint64_t block, const BlockContext& context) {
        GramMoments result = empty_moments(inputs_, layers_);
        const std::uint64_t block_start = block * block_samples_;
        // The part of the block that was asked for; groups of lanes outside it are not computed at all.
        const int begin = static_cast<int>(std::max(block_start, ensemble_.first_sample) - block_start);
        const int end = static_cast<int>(std::min(block_start + block_samples_, end_) - block_start);
        const int first = begin / gram_lanes, last = (end + gram_lanes - 1) / gram_lanes;
        Groups groups(inputs_, static_cast<std::size_t>(last));
        groups.fill(start_);
        std::vector<GramLanes> scratch(gram_scratch_size(inputs_));
        reduce(groups, begin, end, block_start, 0, result);
        for (std::uint32_t layer = 1; layer < layers_; ++layer) {
            for (int group = first; group < last; ++group) {
                const std::uint64_t first_sample = block_start + static_cast<std::uint64_t>(group) * gram_lanes;
                advance(groups, static_cast<std::size_t>(group), layer_at(first_sample, layer), scratch.data(),
                        context.stop);
                if (context.stop.load(std::memory_order_relaxed)) return result;
            }
            reduce(groups, begin, end, block_start, layer, result);
        }
        context.done.fetch_add(static_cast<std::uint64_t>(end - begin));
        return result;
    }

    void reduce(const Groups& groups, int begin, int end, std::uint64_t block_start, std::uint32_t layer,
                GramMoments& result) const {
        GramReduction reduction{result.gram.data() + layer * triangle_size(inputs_),
                                result.log_norm2.data() + layer * inputs_};
        ensemble_.kernels->reduce(groups.state.data(), begin, end, reduction);
        result.log_determinant[layer] = reduction.log_determinant;
        result.effective_rank[layer] = reduction.effective_rank;
        for (int i = begin; i < end; ++i)
            result.rank_lost[layer] += groups.rank_lost[static_cast<std::size_t>(i / gram_lanes)].at[i % gram_lanes];
        if (samples_.gram != nullptr) write(groups, begin, end, block_start, layer);
    }

    void write(const Groups& groups, int begin, int end, std::uint64_t block_start, std::uint32_t layer) const {
        for (int i = begin; i < end; ++i) {
            const GramState& state = groups.state[static_cast<std::size_t>(i / gram_lanes)];
            const int lane = i % gram_lanes;
            const std::uint64_t row =
                (block_start + static_cast<std::uint64_t>(i) - ensemble_.first_sample) * layers_ + layer;
            double* const to = samples_.gram + row * inputs_ * inputs_;
            const int exponent = static_cast<int>(state.exponent.at[lane]);
            for (std::size_t j = 0; j < inputs_; ++j)
                for (std::size_t k = 0; k <= j; ++k)
                    to[j * inputs_ + k] = to[k * inputs_ + j] =
                        std::ldexp(state.gram[triangle_index(j, k)].at[lane], exponent);
            const std::uint32_t rank = state.rank.at[lane];
            samples_.log_determinant[row] = rank == inputs_ ? state.log_determinant.at[lane] : -infinity;
            samples_.rank[row] = static_cast<std::int32_t>(rank);
        }
    }

    void add(const GramMoments& part) {
        merge(moments_.gram, part.gram);
        merge(moments_.log_norm2, part.log_norm2);
        merge(moments_.log_determinant, part.log_determinant);
        merge(moments_.effective_rank, part.effective_rank);
        for (std::size_t layer = 0; layer < layers_; ++layer) moments_.rank_lost[layer] += part.rank_lost[layer];
    }

    const GramEnsemble& ensemble_;
    GramMoments& moments_;
    const GramSamples& samples_;
    const std::size_t inputs_, layers_;
    const std::uint64_t block_samples_, end_, first_block_, last_block_;
    Groups start_;  // a single one
    double log_norm0_[2] = {};
};

}  // namespace

bool simulate_gram(const GramEnsemble& ensemble, GramMoments& moments, const GramSamples& samples,
                   const Watcher& watcher) {
    return Run(ensemble, moments, samples).finish(watcher);
}

}  // namespace wideangle
