#include "cpu_paths.hpp"

#include <type_traits>

namespace wideangle {

WIDEANGLE_DECLARE_KERNEL(AngleStepFunction, angle_step)
WIDEANGLE_DECLARE_KERNEL(const DenseKernels*, dense_layer)
WIDEANGLE_DECLARE_KERNEL(const GramKernels*, gram_step)
WIDEANGLE_DECLARE_KERNEL(const ForwardKernels<float>*, forward_float_fused)
WIDEANGLE_DECLARE_KERNEL(const ForwardKernels<double>*, forward_double_fused)
WIDEANGLE_DECLARE_KERNEL(KernelDistanceFunction, kernel_distance)
WIDEANGLE_DECLARE_KERNEL(KernelStepFunction, kernel_step)
WIDEANGLE_DECLARE_KERNEL(KernelNormFunction, kernel_norm)
WIDEANGLE_DECLARE_KERNEL(HermiteFunction, hermite)
WIDEANGLE_DECLARE_KERNEL(const ChunkKernels*, chunk_fused)
WIDEANGLE_DECLARE_KERNEL(ReadoutFunction<float>, readout_float_fused)
WIDEANGLE_DECLARE_KERNEL(ReadoutFunction<double>, readout_double_fused)
WIDEANGLE_DECLARE_KERNEL(const EvaluationKernels*, network_evaluation)
WIDEANGLE_DECLARE_KERNEL(const TrainingKernels*, training_step)

#define WIDEANGLE_KERNELS(path)                                                                        \
    angle_step_##path, &dense_layer_##path, &gram_step_##path, &forward_float_fused_##path,            \
        &forward_double_fused_##path,                                                                  \
        kernel_distance_##path, kernel_step_##path, kernel_norm_##path, hermite_##path, &chunk_fused_##path, \
        readout_float_fused_##path, readout_double_fused_##path, &network_evaluation_##path, &training_step_##path

#ifdef WIDEANGLE_X86_PATHS
static bool has_avx2() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }
static bool has_avx512() {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
}
#endif
static bool always() { return true; }

const CpuPath cpu_paths[] = {
#ifdef WIDEANGLE_X86_PATHS
    {"avx512", has_avx512, WIDEANGLE_KERNELS(avx512)},
    {"avx2", has_avx2, WIDEANGLE_KERNELS(avx2)},
#endif
    {"baseline", always, WIDEANGLE_KERNELS(baseline)},
};
const int cpu_path_count = sizeof cpu_paths / sizeof cpu_paths[0];

}  // namespace wideangle
