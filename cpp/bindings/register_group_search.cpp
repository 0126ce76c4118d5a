#include "bindings.hpp"
#include "group_search.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

using Integers = py::array_t<std::int64_t, py::array::c_style>;

py::dict group_search(const py::array_t<double, py::array::c_style>& covariance, const Integers& orders, std::size_t size,
                      int n_threads, const std::string& cpu_path, const py::object& progress) {
    const wideangle::CpuPath& path = find_path(cpu_path);
    const wideangle::GroupSearch task{covariance.data(), static_cast<std::size_t>(covariance.shape(0)), orders.data(),
                                      static_cast<std::size_t>(orders.shape(0)), size};
    Integers greedy({orders.shape(0), orders.shape(1)}), group({orders.shape(0), orders.shape(1)}), swaps(orders.shape(0));
    const wideangle::GroupSearchResult to{greedy.mutable_data(), group.mutable_data(), swaps.mutable_data()};
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::group_search(task, to, path, n_threads, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    py::dict result;
    result["greedy"] = greedy;
    result["group"] = group;
    result["n_swaps"] = swaps;
    return result;
}

}  // namespace

void register_group_search(py::module_& module) {
    using namespace py::literals;
    module.def("group_search", group_search, "covariance"_a, py::kw_only(), "orders"_a, "size"_a, "n_threads"_a, "cpu_path"_a,
               "progress"_a, "Groups of neurons that carry much information; arguments are taken as checked.");
}
