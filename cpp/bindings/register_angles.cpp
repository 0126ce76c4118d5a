#include <optional>
#include <tuple>

#include "angle_ensemble.hpp"
#include "bindings.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::to_array;
using wideangle::bindings::watch;

namespace {

py::dict simulate_angles(double theta0, std::vector<std::uint32_t> widths, double weight_variance, std::uint64_t seed,
                         std::uint64_t first_sample, std::uint64_t n_samples, int n_threads,
                         const std::string& cpu_path, bool keep_samples,
                         std::optional<std::tuple<double, double, int>> histogram, const py::object& progress) {
    wideangle::AngleEnsemble ensemble;
    ensemble.theta0 = theta0;
    ensemble.widths = std::move(widths);
    ensemble.weight_variance = weight_variance;
    ensemble.seed = seed;
    ensemble.first_sample = first_sample;
    ensemble.samples = n_samples;
    ensemble.threads = n_threads;
    ensemble.angle_step = find_path(cpu_path).angle_step;
    if (histogram) ensemble.bins = {std::get<0>(*histogram), std::get<1>(*histogram), std::get<2>(*histogram)};

    py::dict result;
    wideangle::AngleSamples samples;
    if (keep_samples) {
        const auto rows = static_cast<py::ssize_t>(n_samples);
        const auto layers = static_cast<py::ssize_t>(ensemble.widths.size() + 1);
        py::array_t<double> log_sin2({rows, layers});
        py::array_t<double> log_norm2({rows, layers});
        py::array_t<std::uint8_t> status(rows);
        samples = {log_sin2.mutable_data(), log_norm2.mutable_data(), status.mutable_data()};
        result["sample_log_sin2"] = log_sin2;
        result["sample_log_norm2"] = log_norm2;
        result["sample_status"] = status;
    }

    wideangle::AngleMoments moments;
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::simulate_angles(ensemble, moments, samples, watch(progress));
    }
    if (!completed) throw py::error_already_set();

    result["log_sin2"] = to_array(moments.log_sin2);
    result["log_norm2"] = to_array(moments.log_norm2);
    result["collapsed"] = to_array(moments.collapsed);
    result["dead"] = to_array(moments.dead);
    if (histogram) {
        result["histogram"] = to_array(moments.histogram);
        result["underflow"] = to_array(moments.underflow);
        result["overflow"] = to_array(moments.overflow);
    }
    return result;
}

}  // namespace

void register_angles(py::module_& module) {
    using namespace py::literals;
    module.def("simulate_angles", simulate_angles, "theta0"_a, "widths"_a, "weight_variance"_a, py::kw_only(), "seed"_a,
               "first_sample"_a, "n_samples"_a, "n_threads"_a, "cpu_path"_a, "keep_samples"_a, "histogram"_a,
               "progress"_a,
               "Ensemble of angle chains; arguments are taken as checked. Moments come as rows count, mean and central "
               "sums of the second to fourth power.");
}
