// The flags of every command that computes, and opening the model they name.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "core/result.h"
#include "engine/engine.h"
#include "formats/checkpoint.h"
#include "model/model.h"

namespace redoubt {

struct ModelFlags {
  std::string model;                   // as given; "" where the command allows it
  std::string kernels = "auto";        // one of kernel_names()
  int threads = 0;                     // 0: the usable cores
  std::string cache_type = "bf16";     // f32, bf16, q8
  std::string packed = "only-memory";  // auto, only-memory, off
  std::string data;                    // the data folder, for packed files that cannot lie beside their model

  Result<ModelOptions> options() const;
};

// What names a kernel table: those of every processor, and auto.
inline constexpr const char* kKernelNames = "reference, avx2, avx512, avx512_bf16, amx, neon or auto";
CLI::IsMember kernel_names();

// auto, off, ngram or mtp.
Result<Speculation> parse_speculation(const std::string& name);

void add_model_flags(CLI::App& command, ModelFlags& flags, bool model_required);

// The path of a model: a directory or a .gguf file as given; "" is the small model that `make run` fetched.
Result<std::filesystem::path> resolve_model(const std::string& given);

struct OpenModel {  // members are destroyed bottom up: the model reads the checkpoint's maps
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Model> model;
};
Result<OpenModel> open_model(const ModelFlags& flags, const StepLimits& limits = {});

}  // namespace redoubt
