// A model from one container to the other: a safetensors directory, a .gguf file, a packed file that is a model of its
// own (docs/formats/packing.md), chosen by OUT's name; or the same container with other types. Values return to the bit
// where types stay: F32 and BF16, whichever way and back; a packed file keeps every type.
//
// Stored otherwise on the other side, and undone on the way back: experts are stacked; kv_b_proj is split into k_b and
// v_b per head; Llama's q and k rows are permuted; norms, biases and routers are F32 in GGUF (what was BF16 is noted in
// redoubt.stored_as_bf16). MTP modules travel as blk.N.nextn.*. DeepSeek's FP8 blocks become F32 in GGUF, which is
// exact.
// Source: docs/formats/gguf.md. Bound: the disk.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/thread_pool.h"

namespace redoubt {

enum class Container : uint8_t { safetensors, gguf, packed };

struct ConvertOptions {
  std::optional<Container> to;  // none: by the name of `out`
  std::optional<DType> type;    // of the matrices; none: as stored (FP8 in GGUF, ggml blocks in safetensors: f32)
  ThreadPool* pool = nullptr;
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
  const std::atomic<bool>* stop = nullptr;  // as in WriteOptions
};

struct ConvertReport {
  int64_t tensors = 0;
  int64_t bytes_in = 0, bytes_out = 0;
  std::vector<std::string> notes;  // a sentence each: what was widened, narrowed or left out
};

// `out` must not exist, or be an empty directory.
// Errors: what Checkpoint::open finds; invalid_argument for a type that the container does not have; io.
Result<ConvertReport> convert(const std::filesystem::path& in, const std::filesystem::path& out,
                              const ConvertOptions& options = {});

}  // namespace redoubt
