// A random model of any shape, for measurement: the tensors that the configuration calls for, normal with a standard
// deviation of 0.02 (norms 1), the same for the same seed whatever the number of threads. A .gguf file takes the
// tokenizer that lies beside the configuration, if one does, so that a server can be measured with it; a directory has
// none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "core/dtype.h"
#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/convert.h"

namespace redoubt {

struct SynthOptions {
  std::optional<DType> type;  // of the matrices; none: bf16
  uint64_t seed = 1;
  ThreadPool* pool = nullptr;
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
  const std::atomic<bool>* stop = nullptr;  // as in WriteOptions
};

// `config`: a config.json. `out`: a directory to make, or a .gguf file.
Result<ConvertReport> synthesize(const std::filesystem::path& config, const std::filesystem::path& out,
                                 const SynthOptions& options = {});

}  // namespace redoubt
