// The random words of sixteen samples, and binomial counts made of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "angle_step.hpp"
#include "simd.hpp"
#include "threefry.hpp"

namespace wideangle::WIDEANGLE_PATH {

constexpr std::uint32_t quads_between_stops = 8192;

enum Purpose : std::uint32_t { counts = 1, both_active = 2, one_active = 3, few_active = 4, gram_normals = 5 };

struct Stream {
    u32 sample_low, sample_high;
    std::uint32_t layer, seed_low, seed_high, purpose;

    WIDEANGLE_INLINE Stream(const AngleLayer& at, Purpose purpose_)
        : layer(at.layer),
          seed_low(static_cast<std::uint32_t>(at.seed)),
          seed_high(static_cast<std::uint32_t>(at.seed >> 32)),
          purpose(purpose_) {
        constexpr u32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        sample_low = static_cast<std::uint32_t>(at.first_sample) + lane;
        sample_high = broadcast32(static_cast<std::uint32_t>(at.first_sample >> 32));
    }

    // High is for those who need more than 2^32 of them.
    WIDEANGLE_INLINE Words4<u32> quad(std::uint32_t index, std::uint32_t high = 0) const {
        return threefry4x32(
            Words4<u32>{{sample_low, sample_high, broadcast32(layer), broadcast32(index)}},
            Words4<u32>{{broadcast32(seed_low), broadcast32(seed_high), broadcast32(purpose), broadcast32(high)}});
    }

    // The quads at index and index + 1.
    WIDEANGLE_INLINE Words4<Pair<u32>> two_quads(std::uint32_t index, std::uint32_t high = 0) const {
        const auto both = [](u32 x) { return Pair<u32>{x, x}; };
        const Pair<u32> indices = {broadcast32(index), broadcast32(index + 1)};
        return threefry4x32(
            Words4<Pair<u32>>{{both(sample_low), both(sample_high), both(broadcast32(layer)), indices}},
            Words4<Pair<u32>>{{both(broadcast32(seed_low)), both(broadcast32(seed_high)), both(broadcast32(purpose)),
                               both(broadcast32(high))}});
    }
};

WIDEANGLE_INLINE u32 count_bits(u32 x) {
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    x = x + (x >> 8);
    return (x + (x >> 16)) & 0x3fu;
}

// The lowest min(count, 32) bits.
WIDEANGLE_INLINE u32 low_bits(u32 count) {
    const u32 part = (broadcast32(1u) << (count & 31u)) - 1u;
    return select(less(31, count), broadcast32(0xffffffffu), part);
}

// How many of m fair coins show heads, from as many random bits; every step has bits of its own.
WIDEANGLE_INLINE u32 heads(const Stream& stream, u32 m, std::uint32_t step, const std::atomic<bool>& stop) {
    const std::uint32_t words = largest(m) / 32 + (largest(m) % 32 != 0);
    u32 result{};
    for (std::uint32_t quad = 0; 4 * quad < words; ++quad) {
        if (quad % quads_between_stops == 0 && stop.load(std::memory_order_relaxed)) break;
        const Words4<u32> bits = stream.quad(step << 25 | quad);
        for (std::uint32_t j = 0; j < 4; ++j) {
            const u32 before = broadcast32(32 * (4 * quad + j));
            result += count_bits(bits.word[j] & low_bits(select(less(before, m), m - before, u32{})));
        }
    }
    return result;
}

constexpr std::uint32_t digits = 120;  // of a probability; steps 120-126 are free for other counts, 127 is shared
constexpr std::uint32_t both_step = 120;
constexpr std::uint32_t shared_step = 127;

// The binary digits of sixteen probabilities below 1, one place at a time.
class Digits {
  public:
    WIDEANGLE_INLINE explicit Digits(const double (&probability)[lanes]) { std::memcpy(rest_, probability, sizeof rest_); }

    // All bits set where the digit at this place is 1. Places are asked for in order.
    WIDEANGLE_INLINE i32 at(std::uint32_t place) {
        if (place % 32 == 0) {
            alignas(64) std::uint32_t next[lanes];
            for (int i = 0; i < lanes; ++i) {
                const double scaled = rest_[i] * 0x1p32;
                next[i] = static_cast<std::uint32_t>(scaled);
                rest_[i] = scaled - static_cast<double>(next[i]);
            }
            next_ = load<u32>(next);
        }
        const i32 digit = bits_as<i32>(next_) < 0;
        next_ <<= 1;
        return digit;
    }

  private:
    alignas(64) double rest_[lanes];
    u32 next_{};
};

// Binomial(m, p) without arithmetic on p: each of m uniform numbers is compared with p binary digit by binary digit, and
// only those still undecided need another bit, about 2 m bits in all. Exact to the last digit of p. While more than 32
// numbers of a lane are undecided they are only counted; after that each has a bit of a mask.
WIDEANGLE_INLINE u32 binomial(const Stream& stream, u32 m, const double (&probability)[lanes],
                              const std::atomic<bool>& stop) {
    Digits digit(probability);
    u32 successes{}, succeeded{};
    i32 is_many = less(32, m);
    u32 undecided = low_bits(m) & bits_as<u32>(~is_many);
    m &= bits_as<u32>(is_many);
    Words4<Pair<u32>> shared{};
    for (std::uint32_t place = 0; place < digits; ++place) {
        const i32 one = digit.at(place);
        if (place % 8 == 0) shared = stream.two_quads(shared_step << 25 | place / 4);
        const u32 word = place % 8 < 4 ? shared.word[place % 4].first : shared.word[place % 4].second;
        // A number is below p if at the first place where they differ its digit is 0.
        succeeded |= undecided & ~word & bits_as<u32>(one);
        undecided &= ~(word ^ bits_as<u32>(one));
        if (largest(m) > 0) {
            const u32 ones = heads(stream, m, place, stop);
            const u32 zeros = m - ones;
            successes += zeros & bits_as<u32>(one);
            m = select(one, ones, zeros);
            is_many = less(32, m);
            undecided |= low_bits(m) & bits_as<u32>(~is_many);
            m &= bits_as<u32>(is_many);
        } else if (place % 8 == 7 && largest(undecided) == 0) {
            break;
        }
    }
    return successes + count_bits(succeeded);
}

}  // namespace wideangle::WIDEANGLE_PATH
