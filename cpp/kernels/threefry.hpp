// Threefry-4x32 with 13 rounds: a counter-based generator of random bits (Salmon, Moraes, Dror, Shaw, SC11, 2011).
// 12 rounds pass BigCrush; 13 is the published variant with known-answer vectors and a round to spare.
#pragma once

#include <cstdint>

#ifndef WIDEANGLE_PATH
#define WIDEANGLE_PATH baseline
#endif

namespace wideangle::WIDEANGLE_PATH {

template <class Word>
struct Words4 {
    Word word[4];
};

template <int bits, class Word>
inline __attribute__((always_inline)) Word rotate_left(Word x) {
    return (x << bits) | (x >> (32 - bits));
}

template <int even, int odd, class Word>
inline __attribute__((always_inline)) void threefry_mix(Word& a, Word& b, Word& c, Word& d) {
    a += b;
    b = rotate_left<even>(b) ^ a;
    c += d;
    d = rotate_left<odd>(d) ^ c;
}

// Word is std::uint32_t or a vector of them; each lane is a generator of its own.
template <int rounds = 13, class Word>
inline __attribute__((always_inline)) Words4<Word> threefry4x32(Words4<Word> counter, const Words4<Word>& key) {
    static_assert(rounds >= 1 && rounds <= 20);
    const Word schedule[5] = {key.word[0], key.word[1], key.word[2], key.word[3],
                              key.word[0] ^ key.word[1] ^ key.word[2] ^ key.word[3] ^ 0x1BD11BDAu};
    Word x0 = counter.word[0] + schedule[0];
    Word x1 = counter.word[1] + schedule[1];
    Word x2 = counter.word[2] + schedule[2];
    Word x3 = counter.word[3] + schedule[3];
    // The rounds come in pairs with crossed partners; the rotation distances repeat every eight rounds.
#define WIDEANGLE_ROUND(index, even_left, even_right)                        \
    if constexpr (rounds > (index)) {                                        \
        if constexpr ((index) % 2 == 0)                                      \
            threefry_mix<even_left, even_right>(x0, x1, x2, x3);             \
        else                                                                 \
            threefry_mix<even_left, even_right>(x0, x3, x2, x1);             \
        if constexpr ((index) % 4 == 3) {                                    \
            constexpr std::uint32_t injection = ((index) + 1) / 4;           \
            x0 += schedule[injection % 5];                                   \
            x1 += schedule[(injection + 1) % 5];                             \
            x2 += schedule[(injection + 2) % 5];                             \
            x3 += schedule[(injection + 3) % 5] + injection;                 \
        }                                                                    \
    }
#define WIDEANGLE_EIGHT_ROUNDS(first)      \
    WIDEANGLE_ROUND((first) + 0, 10, 26)   \
    WIDEANGLE_ROUND((first) + 1, 11, 21)   \
    WIDEANGLE_ROUND((first) + 2, 13, 27)   \
    WIDEANGLE_ROUND((first) + 3, 23, 5)    \
    WIDEANGLE_ROUND((first) + 4, 6, 20)    \
    WIDEANGLE_ROUND((first) + 5, 17, 11)   \
    WIDEANGLE_ROUND((first) + 6, 25, 10)   \
    WIDEANGLE_ROUND((first) + 7, 18, 20)
    WIDEANGLE_EIGHT_ROUNDS(0)
    WIDEANGLE_EIGHT_ROUNDS(8)
    WIDEANGLE_EIGHT_ROUNDS(16)
#undef WIDEANGLE_EIGHT_ROUNDS
#undef WIDEANGLE_ROUND
    return {x0, x1, x2, x3};
}

}  // namespace wideangle::WIDEANGLE_PATH
