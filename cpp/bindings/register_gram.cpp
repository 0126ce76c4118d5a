#include "bindings.hpp"
#include "gram_ensemble.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::to_array;
using wideangle::bindings::watch;

namespace {

py::dict simulate_gram(py::array_t<double, py::array::c_style> gram0, std::vector<std::uint32_t> widths, int activation,
                       double slope, double weight_variance, double bias_variance, double theta0, std::uint64_t seed,
                       std::uint64_t first_sample, std::uint64_t n_samples, int n_threads, const std::string& cpu_path,
                       bool keep_samples, const py::object& progress) {
    const wideangle::CpuPath& path = find_path(cpu_path);
    const auto matrix = gram0.unchecked<2>();
    wideangle::GramEnsemble ensemble;
    ensemble.inputs = static_cast<std::size_t>(matrix.shape(0));
    for (py::ssize_t i = 0; i < matrix.shape(0); ++i)
        for (py::ssize_t j = 0; j <= i; ++j) ensemble.gram0.push_back(matrix(i, j));
    ensemble.widths = std::move(widths);
    ensemble.activation = static_cast<wideangle::Activation>(activation);
    ensemble.slope = slope;
    ensemble.weight_variance = weight_variance;
    ensemble.bias_variance = bias_variance;
    ensemble.seed = seed;
    ensemble.first_sample = first_sample;
    ensemble.samples = n_samples;
    ensemble.threads = n_threads;
    ensemble.kernels = path.gram_step;
    if (theta0 > 0) {
        ensemble.angle_step = path.angle_step;
        ensemble.theta0 = theta0;
    }

    py::dict result;
    wideangle::GramSamples samples;
    if (keep_samples) {
        const auto rows = static_cast<py::ssize_t>(n_samples);
        const auto layers = static_cast<py::ssize_t>(ensemble.widths.size() + 1);
        py::array_t<double> gram({rows, layers, matrix.shape(0), matrix.shape(0)});
        py::array_t<double> log_determinant({rows, layers});
        py::array_t<std::int32_t> rank({rows, layers});
        samples = {gram.mutable_data(), log_determinant.mutable_data(), rank.mutable_data()};
        result["sample_gram"] = gram;
        result["sample_log_determinant"] = log_determinant;
        result["sample_rank"] = rank;
    }

    wideangle::GramMoments moments;
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::simulate_gram(ensemble, moments, samples, watch(progress));
    }
    if (!completed) throw py::error_already_set();

    result["gram"] = to_array(moments.gram);
    result["log_norm2"] = to_array(moments.log_norm2);
    result["log_determinant"] = to_array(moments.log_determinant);
    result["effective_rank"] = to_array(moments.effective_rank);
    result["rank_lost"] = to_array(moments.rank_lost);
    return result;
}

}  // namespace

void register_gram(py::module_& module) {
    using namespace py::literals;
    module.def("simulate_gram", simulate_gram, "gram0"_a, "widths"_a, py::kw_only(), "activation"_a, "slope"_a,
               "weight_variance"_a, "bias_variance"_a, "theta0"_a, "seed"_a, "first_sample"_a, "n_samples"_a,
               "n_threads"_a, "cpu_path"_a, "keep_samples"_a, "progress"_a,
               "Ensemble of Gram matrix chains; arguments are taken as checked. Moments come as rows count, mean and "
               "central sums of the second to fourth power.");
}
