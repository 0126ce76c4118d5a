// The kernels of each instruction set, from which an ensemble picks one set when it starts.
#pragma once

#include "angle_step.hpp"
#include "chunk_elimination.hpp"
#include "dense_layer.hpp"
#include "gram_step.hpp"
#include "forward_layer.hpp"
#include "hermite_series.hpp"
#include "kernel_recursion.hpp"
#include "network_evaluation.hpp"
#include "readout_sums.hpp"
#include "training_step.hpp"

// Declares a kernel that is compiled once per instruction set: name_baseline and, on x86-64, name_avx2 and name_avx512.
#ifdef WIDEANGLE_X86_PATHS
#define WIDEANGLE_DECLARE_KERNEL(type, name) \
    extern std::remove_pointer_t<type> name##_baseline, name##_avx2, name##_avx512;
#else
#define WIDEANGLE_DECLARE_KERNEL(type, name) extern std::remove_pointer_t<type> name##_baseline;
#endif

namespace wideangle {

struct CpuPath {
    const char* name;
    bool (*supported)();
    AngleStepFunction angle_step;
    const DenseKernels* dense_layer;
    const GramKernels* gram_step;
    const ForwardKernels<float>* forward_float;
    const ForwardKernels<double>* forward_double;
    KernelDistanceFunction kernel_distance;
    KernelStepFunction kernel_step;
    KernelNormFunction kernel_norm;
    HermiteFunction hermite;
    const ChunkKernels* chunk;
    ReadoutFunction<float> readout_float;
    ReadoutFunction<double> readout_double;
    const EvaluationKernels* network_evaluation;
    const TrainingKernels* training_step;
};

// Every path compiled into this library, the widest first; the last one runs everywhere.
extern const CpuPath cpu_paths[];
extern const int cpu_path_count;

}  // namespace wideangle
