// Gradient flow of sixteen networks, each with steps of its own length: the pair of orders 5 and 4 of Dormand and Prince
// (Journal of Computational and Applied Mathematics 6, 1980). Steps end where records are.
#pragma once

#include <vector>

#include "batch_descent.hpp"

namespace wideangle::WIDEANGLE_PATH {

constexpr int flow_stages = 7;  // the last is the first of the next step
constexpr double flow_coefficients[flow_stages][flow_stages - 1] = {
    {},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}};
constexpr double flow_errors[flow_stages] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                             -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

WIDEANGLE_INLINE bool any(i64 mask) {
    std::int64_t lane[8], all = 0;
    store(lane, mask);
    for (std::int64_t one : lane) all |= one;
    return all != 0;
}

// 0.9 ratio^(-1/5) from the square of the ratio of an error to what is allowed, within limits.
WIDEANGLE_INLINE f64 step_factor(f64 ratio2) {
    const f64 bounded = select(is_less(ratio2, 1e-20), broadcast64(1e-20), ratio2);
    const f64 known = select(is_less(bounded, 1e20), bounded, broadcast64(1e20));  // NaN is large
    const f64 factor = 0.9 * exp64(-0.1 * log64(known));
    const f64 enough = select(is_less(factor, 0.2), broadcast64(0.2), factor);
    return select(is_less(5.0, enough), broadcast64(5.0), enough);
}

template <class Phi>
class GradientFlow final : public Training {
  public:
    GradientFlow(const GroupContext& context, std::uint64_t first_network, Phi phi)
        : context_(context), sum_(context, first_network, phi) {
        for (Lanes& lanes : lanes_) {
            lanes.next.resize(context.run.network.parameters());
            for (auto& slope : lanes.slope) slope.resize(lanes.next.size());
        }
    }

    void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) override {
        if (from == to) return;
        const double rate = context_.run.learning_rate, end = static_cast<double>(to) * rate;
        if (!started_ && !start(halves)) return;
        for (Lanes& lanes : lanes_) lanes.time = broadcast64(static_cast<double>(from) * rate);
        while (true) {
            f64 left[2] = {}, length[2] = {};
            for (int h = 0; h < sum_.used(); ++h) {
                left[h] = keep(halves[h].alive, end - lanes_[h].time);
                length[h] = select(is_less(lanes_[h].length, left[h]), lanes_[h].length, left[h]);
            }
            if (!any(is_less(0.0, left[0]) | is_less(0.0, left[1]))) break;
            if (!take_stages(halves, length)) return;
            for (int h = 0; h < sum_.used(); ++h) finish_step(halves[h], lanes_[h], left[h], length[h], end);
            const std::uint64_t now = step_reached(halves, from, to);
            context_.report(now - from);
            from = now;
        }
        for (Half& half : halves) half.good = after(half.alive, static_cast<double>(to), half.good);
        context_.report(to - from);
    }

  private:
    // Eight networks: the time, the lengths of the first and of the next step of each, the slopes of its stages, and where
    // it leads.
    struct Lanes {
        f64 time = {}, first_length = {}, length = {};
        i64 good = {};  // where the outputs of all stages were of a size that can be
        std::vector<EightLanes> slope[flow_stages], next;
    };

    bool start(Half (&halves)[2]) {
        const EightLanes* const parameters[2] = {halves[0].parameters.data(), halves[1].parameters.data()};
        for (Lanes& lanes : lanes_) lanes.good = ~i64{};
        if (!find_slopes(parameters, 0)) return false;
        for (int h = 0; h < sum_.used(); ++h) {
            halves[h].alive &= lanes_[h].good;
            f64 size2{}, speed2{};
            for (std::size_t p = 0; p < halves[h].parameters.size(); ++p) {
                const f64 at = halves[h].parameters[p].get(), slope = lanes_[h].slope[0][p].get();
                size2 += at * at;
                speed2 += slope * slope;
            }
            const f64 length = 0.01 * square_root(size2 / speed2);
            lanes_[h].length = select(is_less_equal(length, 1e300), length, broadcast64(1e300));  // where nothing moves
            lanes_[h].first_length = lanes_[h].length;
        }
        return started_ = true;
    }

    bool find_slopes(const EightLanes* const parameters[2], int stage) {
        const std::uint32_t samples = context_.run.visits.samples;
        i64 good[2];
        if (!sum_.add_up(parameters, {0, samples}, good)) return false;
        for (int h = 0; h < sum_.used(); ++h) {
            lanes_[h].good &= good[h];
            EightLanes* to = lanes_[h].slope[stage].data();
            sum_.for_parameters(h, 1.0 / samples, [&](std::size_t p, f64 gradient, double rate)
                                __attribute__((always_inline)) { to[p].set(-rate * gradient); });
        }
        return true;
    }

    bool take_stages(const Half (&halves)[2], const f64 (&length)[2]) {
        const EightLanes* const next[2] = {lanes_[0].next.data(), lanes_[1].next.data()};
        for (Lanes& lanes : lanes_) lanes.good = ~i64{};
        for (int stage = 1; stage < flow_stages; ++stage) {
            for (int h = 0; h < sum_.used(); ++h) {
                Lanes& lanes = lanes_[h];
                for (std::size_t p = 0; p < lanes.next.size(); ++p) {
                    f64 slope{};
                    for (int k = 0; k < stage; ++k) slope += flow_coefficients[stage][k] * lanes.slope[k][p].get();
                    lanes.next[p].set(halves[h].parameters[p].get() + length[h] * slope);
                }
            }
            if (!find_slopes(next, stage)) return false;
        }
        return true;
    }

    // Takes the step where its error is small enough, and chooses the length of the next one.
    void finish_step(Half& half, Lanes& lanes, f64 left, f64 length, double end) const {
        f64 error2{}, before2{}, after2{};
        for (std::size_t p = 0; p < lanes.next.size(); ++p) {
            f64 error{};
            for (int k = 0; k < flow_stages; ++k) error += flow_errors[k] * lanes.slope[k][p].get();
            const f64 before = half.parameters[p].get(), after = lanes.next[p].get();
            error2 += (length * error) * (length * error);
            before2 += before * before;
            after2 += after * after;
        }
        const double tolerance = context_.run.tolerance;
        const f64 ratio2 = error2 / (tolerance * tolerance * select(is_less(before2, after2), after2, before2));
        const i64 active = is_less(0.0, left);
        const i64 taken = active & lanes.good & is_less_equal(ratio2, 1.0);
        for (std::size_t p = 0; p < lanes.next.size(); ++p) {
            half.parameters[p].set(select(taken, lanes.next[p].get(), half.parameters[p].get()));
            lanes.slope[0][p].set(select(taken, lanes.slope[flow_stages - 1][p].get(), lanes.slope[0][p].get()));
        }
        const i64 whole = is_less_equal(left, length);  // as far as the record
        lanes.time = select(taken, select(whole, broadcast64(end), lanes.time + length), lanes.time);
        const f64 proposed = length * select(lanes.good, step_factor(ratio2), broadcast64(0.2));
        // A record that cut a step short says nothing about the next one.
        const i64 keeps = ~active | (taken & whole & is_less(proposed, lanes.length));
        lanes.length = select(keeps, lanes.length, proposed);
        const i64 stuck = active & ~taken & is_less(lanes.length, 1e-16 * lanes.time + 1e-20 * lanes.first_length);
        // The step that it is in is the last that it has begun; the 1e-9 are more than a time over the rate rounds by.
        half.good = after(stuck, lanes.time / context_.run.learning_rate + (1.0 + 1e-9), half.good);
        half.alive &= ~stuck;
    }

    // Whole steps where the mask is set.
    static i64 after(i64 mask, f64 steps, i64 otherwise) {
        const i64 whole = __builtin_convertvector(steps, i64);
        return (whole & mask) | (otherwise & ~mask);
    }
    static i64 after(i64 mask, double steps, i64 otherwise) { return after(mask, broadcast64(steps), otherwise); }

    i64 steps_of(f64 time) const { return __builtin_convertvector(time / context_.run.learning_rate, i64); }

    std::uint64_t step_reached(const Half (&halves)[2], std::uint64_t from, std::uint64_t to) const {
        std::uint64_t least = to;
        for (int h = 0; h < sum_.used(); ++h) {
            const i64 steps = steps_of(lanes_[h].time);
            for (int lane = 0; lane < 8; ++lane)
                if (halves[h].alive[lane] != 0) least = std::min(least, static_cast<std::uint64_t>(steps[lane]));
        }
        return std::max(least, from);
    }

    const GroupContext& context_;
    GradientSum<Phi> sum_;
    Lanes lanes_[2];
    bool started_ = false;
};

}  // namespace wideangle::WIDEANGLE_PATH
