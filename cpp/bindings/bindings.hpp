// What the bindings share: arrays, CPU paths, and a watcher that listens to Ctrl-C.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cpu_paths.hpp"
#include "moments.hpp"
#include "ordered_blocks.hpp"

namespace wideangle::bindings {

inline const CpuPath& find_path(const std::string& name) {
    for (int i = 0; i < cpu_path_count; ++i)
        if (cpu_paths[i].supported() && name == cpu_paths[i].name) return cpu_paths[i];
    throw pybind11::value_error("this machine has no CPU path named '" + name + "'; see cpu_paths()");
}

// Calls progress, unless it is None, with the work done. The run stops when a signal or progress raised; the error is
// then set, and the caller throws error_already_set once it holds the interpreter again.
inline Watcher watch(const pybind11::object& progress) {
    return [&progress](std::uint64_t done) {
        const pybind11::gil_scoped_acquire gil;
        if (PyErr_CheckSignals() != 0) return false;
        if (progress.is_none()) return true;
        try {
            progress(done);
            return true;
        } catch (pybind11::error_already_set& error) {
            error.restore();
            return false;
        }
    };
}

template <class T>
pybind11::array_t<T> to_array(const std::vector<T>& values) {
    return pybind11::array_t<T>(static_cast<pybind11::ssize_t>(values.size()), values.data());
}

// Rows count, mean, m2, m3, m4; one column a layer.
inline pybind11::array_t<double> to_array(const std::vector<CentralMoments>& moments) {
    pybind11::array_t<double> result({pybind11::ssize_t{5}, static_cast<pybind11::ssize_t>(moments.size())});
    auto view = result.mutable_unchecked<2>();
    for (pybind11::ssize_t i = 0; i < view.shape(1); ++i) {
        const CentralMoments& layer = moments[static_cast<std::size_t>(i)];
        view(0, i) = layer.count;
        view(1, i) = layer.mean;
        view(2, i) = layer.m2;
        view(3, i) = layer.m3;
        view(4, i) = layer.m4;
    }
    return result;
}

}  // namespace wideangle::bindings
