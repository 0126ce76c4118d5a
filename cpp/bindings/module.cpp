#include "bindings.hpp"

void register_angles(pybind11::module_& module);
void register_chunk_regression(pybind11::module_& module);
void register_chunk_readout(pybind11::module_& module);
void register_evaluation(pybind11::module_& module);
void register_gram(pybind11::module_& module);
void register_group_search(pybind11::module_& module);
void register_forward(pybind11::module_& module);
void register_networks(pybind11::module_& module);
void register_kernels(pybind11::module_& module);
void register_training(pybind11::module_& module);

static std::vector<std::string> cpu_path_names() {
    std::vector<std::string> names;
    for (int i = 0; i < wideangle::cpu_path_count; ++i)
        if (wideangle::cpu_paths[i].supported()) names.emplace_back(wideangle::cpu_paths[i].name);
    return names;
}

PYBIND11_MODULE(_core, module) {
    module.doc() = "Compiled kernels of wideangle.";
    module.def("cpu_paths", cpu_path_names, "Instruction sets this machine can run, the widest first.");
    register_angles(module);
    register_chunk_regression(module);
    register_chunk_readout(module);
    register_evaluation(module);
    register_gram(module);
    register_group_search(module);
    register_forward(module);
    register_networks(module);
    register_kernels(module);
    register_training(module);
}
