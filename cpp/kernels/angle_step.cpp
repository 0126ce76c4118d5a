// Compiled once per instruction set; see angle_step.hpp.
//
// The chain is exact: given the angle, the n pairs of pre-activations are independent Gaussians, so a layer needs O(n)
// random numbers. A pair is written as R (cos psi, cos(psi - theta)) with R^2/2 exponential and psi uniform. What a
// layer must do at least, per neuron active on both inputs: 64 random bits (half of a Threefry block: about 47 vector
// operations), one exponential (28), one sine and cosine (24), three sums (6).
//
// Lanes are samples. Every random word is addressed by (seed; sample, layer, purpose, index), so nothing depends on how
// samples are grouped.
#include "angle_step.hpp"

#include <limits>

#include "lane_counts.hpp"
#include "simd.hpp"
#include "threefry.hpp"
#include "vector_math.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr double pi = 3.14159265358979311600;
constexpr double pi_rest = 1.22464679914735317723e-16;

// Up to this many active neurons, cancellation in S0^2 - |S|^2 can exceed what float32 sums bear: with K neurons, the
// chance that the determinant is below eps S0^2 is of the order eps^((K-1)/2). They are summed pairwise in float64.
constexpr std::uint32_t few = 12;
constexpr std::uint32_t neurons_between_stops = 16384;

// Words for four neurons active on both inputs at a time, asked for in order. With registers to spare the next ones are
// made while these are used, so that the integer chain of the generator and the floating-point chains of its use overlap:
// 20 % faster with 32 registers, slower with 16.
class NeuronWords {
  public:
    WIDEANGLE_INLINE explicit NeuronWords(const AngleLayer& at) : stream_(at, both_active) {
        if constexpr (ahead) next_ = stream_.two_quads(0);
    }

    WIDEANGLE_INLINE Words4<Pair<u32>> of_four(std::uint32_t neuron) {
        if constexpr (!ahead) return stream_.two_quads(neuron / 2);
        const Words4<Pair<u32>> words = next_;
        next_ = stream_.two_quads(neuron / 2 + 2);
        return words;
    }

  private:
#ifdef __AVX512F__
    static constexpr bool ahead = true;
#else
    static constexpr bool ahead = false;
#endif
    Stream stream_;
    Words4<Pair<u32>> next_;
};

// Sums over the neurons active on both inputs, with E = R^2/2 and half = v/2.
struct BothSums {
    f64x2 energy{}, sine2{}, cross{};  // sum of E, E sin^2(half), E sin(half) cos(half)
};

WIDEANGLE_INLINE void add_halves(f64x2& sum, f32 part) {
    sum.half[0] += widen(part, 0);
    sum.half[1] += widen(part, 1);
}

// Adds two neurons, the pair of words each, where their masks are set.
template <bool masked>
WIDEANGLE_INLINE void add_both(Pair<u32> energy_word, Pair<u32> angle_word, f32 scale, Pair<i32> mask, f32 (&sum)[3]) {
    Pair<f32> energy = exponential32(energy_word);
    if constexpr (masked) energy = {keep(mask.first, energy.first), keep(mask.second, energy.second)};
    const SinCos32<Pair<f32>> half = sincos32(to_float(as_i32(angle_word)) * scale);
    const Pair<f32> weighted = energy * half.sine;
    const Pair<f32> sine2 = weighted * half.sine;
    const Pair<f32> cross = weighted * half.cosine;
    sum[0] += energy.first + energy.second;
    sum[1] += sine2.first + sine2.second;
    sum[2] += cross.first + cross.second;
}

// Float32 sums of at most 32 terms, then float64: the error of a sum stays near one unit in the last place of float32.
// Two quads, four neurons, at a time.
WIDEANGLE_INLINE BothSums sum_both(const AngleLayer& at, u32 active, std::uint32_t fewest, f32 scale,
                                   const std::atomic<bool>& stop) {
    NeuronWords words(at);
    const std::uint32_t most = largest(active);
    BothSums sums;
    for (std::uint32_t neuron = 0; neuron < most;) {
        if (neuron % neurons_between_stops == 0 && stop.load(std::memory_order_relaxed)) break;
        const std::uint32_t flush = neuron + 32 < most ? neuron + 32 : most;
        f32 sum[3] = {};
        for (; neuron < flush && neuron + 4 <= fewest; neuron += 4) {
            const Words4<Pair<u32>> bits = words.of_four(neuron);
            add_both<false>(bits.word[0], bits.word[1], scale, Pair<i32>{}, sum);
            add_both<false>(bits.word[2], bits.word[3], scale, Pair<i32>{}, sum);
        }
        for (; neuron < flush; neuron += 4) {
            const Words4<Pair<u32>> bits = words.of_four(neuron);
            add_both<true>(bits.word[0], bits.word[1], scale, Pair<i32>{less(neuron, active), less(neuron + 2, active)},
                           sum);
            add_both<true>(bits.word[2], bits.word[3], scale,
                           Pair<i32>{less(neuron + 1, active), less(neuron + 3, active)}, sum);
        }
        add_halves(sums.energy, sum[0]);
        add_halves(sums.sine2, sum[1]);
        add_halves(sums.cross, sum[2]);
    }
    return sums;
}

// u rounds to 1, and the exponential to 0, once in 3e7: a neuron that is active must not count as silent.
WIDEANGLE_INLINE Pair<f32> at_least(Pair<f32> x, float least) {
    const u32 bound = bits_as<u32>(broadcast32(least));
    const u32 first = bits_as<u32>(x.first), second = bits_as<u32>(x.second);
    return {bits_as<f32>(select(less(bound, first), first, bound)),
            bits_as<f32>(select(less(bound, second), second, bound))};
}

// Sums over the neurons active on one input only, of 2 E sin^2(t)/theta^2 with t uniform on (0, theta).
struct OneSums {
    u32 count_a{}, count_b{};
    f64x2 a{}, b{};
};

WIDEANGLE_INLINE void add_one(Pair<u32> energy_word, Pair<u32> angle_word, f32 theta, Pair<i32> mask, OneSums& sums,
                              f32& a, f32& b) {
    const Pair<f32> energy = at_least(exponential32(energy_word), 0x1p-26f);
    const Pair<f32> u = to_float(as_i32((angle_word >> 1) | 1u)) * 0x1p-31f;
    const Pair<f32> t = u * theta;
    const Pair<f32> sine = u * sine_ratio32(t * t);
    const Pair<f32> weight = 2.0f * energy * sine * sine;
    // Bit 0 of the word, which the exponential leaves unused, says which input.
    const Pair<i32> is_b = as_i32((energy_word & 1u) - 1u);
    const Pair<i32> to_a = mask & (is_b ^ -1), to_b = mask & is_b;
    a += keep(to_a.first, weight.first) + keep(to_a.second, weight.second);
    b += keep(to_b.first, weight.first) + keep(to_b.second, weight.second);
    sums.count_a -= bits_as<u32>(to_a.first + to_a.second);
    sums.count_b -= bits_as<u32>(to_b.first + to_b.second);
}

WIDEANGLE_INLINE OneSums sum_one(const AngleLayer& at, u32 active, f32 theta, const std::atomic<bool>& stop) {
    const Stream stream(at, one_active);
    const std::uint32_t most = largest(active);
    OneSums sums;
    for (std::uint32_t neuron = 0; neuron < most;) {
        if (neuron % neurons_between_stops == 0 && stop.load(std::memory_order_relaxed)) break;
        const std::uint32_t flush = neuron + 32 < most ? neuron + 32 : most;
        f32 a{}, b{};
        for (; neuron < flush; neuron += 4) {
            const Words4<Pair<u32>> bits = stream.two_quads(neuron / 2);
            add_one(bits.word[0], bits.word[1], theta, Pair<i32>{less(neuron, active), less(neuron + 2, active)}, sums,
                    a, b);
            add_one(bits.word[2], bits.word[3], theta, Pair<i32>{less(neuron + 1, active), less(neuron + 3, active)}, sums,
                    a, b);
        }
        add_halves(sums.a, a);
        add_halves(sums.b, b);
    }
    return sums;
}

// Squared norms, overlap and determinant over sin^2(theta) of the neurons active on both inputs.
struct BothGram {
    f64x2 a, b, overlap, determinant;
};

WIDEANGLE_INLINE f64 uniform64(u32 high, u32 low, int half) {
    // 52 random bits at the centre of their cell, in (0, 1).
    const u64 mantissa = widen_bits(high, half) << 20 | widen_bits(low, half) >> 12;
    return bits_as<f64>(mantissa | 0x3ff0000000000000ULL) - (1.0 - 0x1p-53);
}

WIDEANGLE_INLINE BothGram gram_of_few(const AngleLayer& at, u32 active, const AngleState& state) {
    const Stream stream(at, few_active);
    const std::uint32_t most = largest(active);
    BothGram gram{};
    f64 energy[few][2], sine[few][2], cosine[few][2];
    for (std::uint32_t i = 0; i < most; ++i) {
        const Words4<u32> bits = stream.quad(i);
        for (int h = 0; h < 2; ++h) {
            const f64 theta = load<f64>(state.theta + 8 * h);
            const f64 cosine_half = load<f64>(state.cosine_half + 8 * h);
            const f64 sine_half = load<f64>(state.sine_half + 8 * h);
            const f64 delta = (pi - theta) + pi_rest;
            const i64 mask = widen_mask(less(i, active), h);
            energy[i][h] = keep(mask, -log64(uniform64(bits.word[0], bits.word[1], h)));
            const SinCos64 angle = sincos64((uniform64(bits.word[2], bits.word[3], h) - 0.5) * delta);
            sine[i][h] = angle.sine;
            cosine[i][h] = angle.cosine;
            const f64 to_a = angle.cosine * cosine_half - angle.sine * sine_half;
            const f64 to_b = angle.cosine * cosine_half + angle.sine * sine_half;
            gram.a.half[h] += 2.0 * energy[i][h] * to_a * to_a;
            gram.b.half[h] += 2.0 * energy[i][h] * to_b * to_b;
            gram.overlap.half[h] += 2.0 * energy[i][h] * to_a * to_b;
            for (std::uint32_t j = 0; j < i; ++j) {
                const f64 difference = sine[i][h] * cosine[j][h] - cosine[i][h] * sine[j][h];
                gram.determinant.half[h] += 4.0 * energy[i][h] * energy[j][h] * difference * difference;
            }
        }
    }
    return gram;
}

WIDEANGLE_INLINE BothGram gram_of_many(const BothSums& sums, const AngleState& state) {
    BothGram gram;
    for (int h = 0; h < 2; ++h) {
        const f64 cosine_half = load<f64>(state.cosine_half + 8 * h);
        const f64 sine_half = load<f64>(state.sine_half + 8 * h);
        const f64 cosine2 = sums.energy.half[h] - sums.sine2.half[h];
        const f64 even = cosine2 * cosine_half * cosine_half;
        const f64 odd = sums.sine2.half[h] * sine_half * sine_half;
        const f64 skew = 2.0 * sums.cross.half[h] * cosine_half * sine_half;
        gram.a.half[h] = 2.0 * (even + odd - skew);
        gram.b.half[h] = 2.0 * (even + odd + skew);
        gram.overlap.half[h] = 2.0 * (even - odd);
        gram.determinant.half[h] =
            4.0 * (cosine2 * sums.sine2.half[h] - sums.cross.half[h] * sums.cross.half[h]);
    }
    return gram;
}

// Adds the logarithm of a squared norm where the pair was alive.
WIDEANGLE_INLINE void add_log_norm(double* log_norm2, f64 norm, i64 was_alive, double norm_factor, int h) {
    const f64 infinity = broadcast64(std::numeric_limits<double>::infinity());
    const i64 positive = norm > 0.0;
    const f64 step = log64(select(positive, norm, broadcast64(1.0)) * norm_factor);
    store(log_norm2 + 8 * h, load<f64>(log_norm2 + 8 * h) + keep(was_alive, select(positive, step, -infinity)));
}

// From the sums of a layer to the state after it, for eight lanes. alive: not collapsed and not dead before or now.
WIDEANGLE_INLINE void advance(AngleState& state, const BothGram& gram, const OneSums& one, i32 was_alive, i32 alive,
                              i32 orthogonal, const AngleLayer& at, int h) {
    const double norm_factor = at.weight_variance / static_cast<double>(at.width);
    const i64 mask = widen_mask(alive, h);
    const f64 theta = load<f64>(state.theta + 8 * h);
    const f64 flatness = load<f64>(state.flatness + 8 * h);
    const f64 theta2 = theta * theta;
    const f64 one_a = one.a.half[h], one_b = one.b.half[h];
    const f64 unit = broadcast64(1.0);
    const f64 norm_a = select(mask, gram.a.half[h] + theta2 * one_a, unit);
    const f64 norm_b = select(mask, gram.b.half[h] + theta2 * one_b, unit);
    // Determinant over theta^2: nothing here cancels as theta goes to 0.
    const f64 determinant = select(mask,
                                   flatness * gram.determinant.half[h] + one_a * gram.b.half[h] +
                                       one_b * gram.a.half[h] + theta2 * one_a * one_b,
                                   unit);
    const f64 x = keep(mask, gram.overlap.half[h]);
    const f64 y = select(mask, theta * square_root(determinant), unit);
    const f64 hypotenuse = square_root(x * x + y * y);
    const f64 next_theta = arctangent64(y, x);
    const f64 cosine_half = square_root((hypotenuse + x) / (2.0 * hypotenuse));
    const f64 sine_half = y / (2.0 * hypotenuse * cosine_half);
    const f64 sine_ratio = 2.0 * sine_half * cosine_half / next_theta;
    const f64 step = log64(select(mask, determinant / (flatness * norm_a * norm_b), unit));
    // Rounding must not push sin^2 above 1, and a right angle, which has positive probability, is one exactly.
    const f64 log_sin2 = load<f64>(state.log_sin2 + 8 * h) + step;
    store(state.log_sin2 + 8 * h, keep((log_sin2 < 0.0) & ~widen_mask(orthogonal, h), log_sin2));
    if (at.both_norms) {
        add_log_norm(state.log_norm2, gram.a.half[h] + theta2 * one_a, widen_mask(was_alive, h), norm_factor, h);
        add_log_norm(state.log_norm2_b, gram.b.half[h] + theta2 * one_b, widen_mask(was_alive, h), norm_factor, h);
    } else {
        store(state.log_norm2 + 8 * h, load<f64>(state.log_norm2 + 8 * h) + keep(mask, log64(norm_a * norm_factor)));
    }
    store(state.theta + 8 * h, next_theta);
    store(state.cosine_half + 8 * h, cosine_half);
    store(state.sine_half + 8 * h, sine_half);
    // Below 1e-150 the ratio is 1 to the last bit, while theta itself may be subnormal.
    store(state.flatness + 8 * h, select(next_theta > 1e-150, sine_ratio * sine_ratio, unit));
}

void step(AngleState& state, const AngleLayer& at, const std::atomic<bool>& stop) {
    u32 status = load<u32>(state.status);
    const i32 was_alive = bits_as<i32>(status) == 0;
    const u32 neurons = bits_as<u32>(was_alive) & at.width;

    // How many neurons are active on one input only, on both, on neither.
    alignas(64) double probability[lanes];
    for (int i = 0; i < lanes; ++i) {
        const double p = state.theta[i] * 0.31830988618379067;
        probability[i] = p < 1.0 - 0x1p-53 ? p : 1.0 - 0x1p-53;
    }
    const Stream stream(at, counts);
    const u32 one_active_count = binomial(stream, neurons, probability, stop);
    const u32 both = heads(stream, neurons - one_active_count, both_step, stop);

    const f64x2 theta = {{load<f64>(state.theta), load<f64>(state.theta + 8)}};
    const OneSums one = sum_one(at, one_active_count, narrow(theta), stop);

    const i32 is_few = less(both, broadcast32(few + 1));
    BothGram gram = gram_of_few(at, both & bits_as<u32>(is_few), state);
    const u32 many = both & bits_as<u32>(~is_few);
    if (largest(many) > 0) {
        const f64x2 scale = {{((pi - theta.half[0]) + pi_rest) * 0x1p-32, ((pi - theta.half[1]) + pi_rest) * 0x1p-32}};
        const std::uint32_t fewest = smallest(select(is_few, broadcast32(0xffffffffu), both));
        const BothGram gram_many = gram_of_many(sum_both(at, many, fewest, narrow(scale), stop), state);
        for (int h = 0; h < 2; ++h) {
            const i64 mask = widen_mask(is_few, h);
            gram.a.half[h] = select(mask, gram.a.half[h], gram_many.a.half[h]);
            gram.b.half[h] = select(mask, gram.b.half[h], gram_many.b.half[h]);
            gram.overlap.half[h] = select(mask, gram.overlap.half[h], gram_many.overlap.half[h]);
            gram.determinant.half[h] = select(mask, gram.determinant.half[h], gram_many.determinant.half[h]);
        }
    }

    // Rank by counts, never by a floating-point zero.
    const i32 dies = (both + one.count_a == 0u) | (both + one.count_b == 0u);
    const i32 collapses = ~dies & (both == 1u) & (one_active_count == 0u);
    const u32 dead = broadcast32(static_cast<std::uint32_t>(PairStatus::dead));
    const u32 collapsed = broadcast32(static_cast<std::uint32_t>(PairStatus::collapsed));
    status = select(was_alive & dies, dead, select(was_alive & collapses, collapsed, status));
    store(state.status, status);

    const i32 alive = bits_as<i32>(status) == 0;
    const i32 orthogonal = alive & (both == 0u);
    advance(state, gram, one, was_alive, alive, orthogonal, at, 0);
    advance(state, gram, one, was_alive, alive, orthogonal, at, 1);
}

}  // namespace
}  // namespace WIDEANGLE_PATH

void WIDEANGLE_JOIN(angle_step_, WIDEANGLE_PATH)(AngleState& state, const AngleLayer& at,
                                                const std::atomic<bool>& stop) {
    WIDEANGLE_PATH::step(state, at, stop);
}

}  // namespace wideangle
