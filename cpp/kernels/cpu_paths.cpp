#include "angle_step.hpp"

namespace wideangle {

void angle_step_baseline(AngleState&, const AngleLayer&, const std::atomic<bool>&);
#ifdef WIDEANGLE_X86_PATHS
void angle_step_avx2(AngleState&, const AngleLayer&, const std::atomic<bool>&);
void angle_step_avx512(AngleState&, const AngleLayer&, const std::atomic<bool>&);

static bool has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
static bool has_avx512() {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
}
#endif
static bool always() { return true; }

const CpuPath cpu_paths[] = {
#ifdef WIDEANGLE_X86_PATHS
    {"avx512", has_avx512, angle_step_avx512},
    {"avx2", has_avx2, angle_step_avx2},
#endif
    {"baseline", always, angle_step_baseline},
};
const int cpu_path_count = sizeof cpu_paths / sizeof cpu_paths[0];

}  // namespace wideangle
