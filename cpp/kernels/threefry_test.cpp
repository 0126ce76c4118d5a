// Known answers: the test vectors published with Random123 (Salmon et al., SC11).
#include "threefry.hpp"

#include "check.hpp"
#include "simd.hpp"

using namespace wideangle::WIDEANGLE_PATH;
using Scalar = Words4<std::uint32_t>;

template <int rounds>
void check_known(const Scalar& counter, const Scalar& key, const Scalar& expected) {
    const Scalar scalar = threefry4x32<rounds>(counter, key);
    Words4<u32> lane_counter, lane_key;
    for (int i = 0; i < 4; ++i) {
        lane_counter.word[i] = broadcast32(counter.word[i]);
        lane_key.word[i] = broadcast32(key.word[i]);
    }
    // Another counter in the other lanes: lanes must not mix.
    for (int lane = 1; lane < lanes; ++lane) lane_counter.word[0][lane] += 1;
    const Words4<u32> vector = threefry4x32<rounds>(lane_counter, lane_key);
    for (int i = 0; i < 4; ++i) {
        CHECK(scalar.word[i] == expected.word[i]);
        CHECK(vector.word[i][0] == expected.word[i]);
        CHECK(vector.word[i][7] != expected.word[i]);
    }
}

int main() {
    const Scalar zeros = {{0, 0, 0, 0}};
    const Scalar ones = {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}};
    const Scalar pi1 = {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
    const Scalar pi2 = {{0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89}};
    check_known<13>(zeros, zeros, {{0x531c7e4f, 0x39491ee5, 0x2c855a92, 0x3d6abf9a}});
    check_known<13>(ones, ones, {{0xc4189358, 0x1c9cc83a, 0xd5881c67, 0x6a0a89e0}});
    check_known<13>(pi1, pi2, {{0x4aa71d8f, 0x734738c2, 0x431fc6a8, 0xae6debf1}});
    check_known<20>(zeros, zeros, {{0x9c6ca96a, 0xe17eae66, 0xfc10ecd4, 0x5256a7d8}});
    check_known<20>(ones, ones, {{0x2a881696, 0x57012287, 0xf6c7446e, 0xa16a6732}});
    check_known<20>(pi1, pi2, {{0x59cd1dbb, 0xb8879579, 0x86b5d00c, 0xac8b6d84}});
    return check::report();
}
