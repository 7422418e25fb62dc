// Writes a model: tensors are declared first, then computed piece by piece and streamed to the file, so that memory
// stays at some tens of megabytes whatever the model's size. Files appear under their name only when they are complete.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/tensor_rows.h"

namespace redoubt {

// A tensor to be written. fill encodes rows [begin, end) as dtype; threads call it for different rows at once.
struct OutputTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  // Hugging Face order
  int64_t quantum = 1;         // rows that are best computed together
  std::function<void(int64_t begin, int64_t end, std::byte* out)> fill;
  std::function<Status(ThreadPool* pool)> verify = {};  // of what fill reads, once, before it; empty: nothing to verify
  std::function<void()> release = {};                   // what fill has read so far will hardly be read again

  int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const;
  int64_t bytes() const { return rows() * row_bytes(dtype, cols()); }
};

// Copies stored bytes where the type stays, else decodes and encodes.
OutputTensor output_tensor(std::string name, DType dtype, std::vector<int64_t> shape, TensorRows rows);

struct WriteOptions {
  ThreadPool* pool = nullptr;                                             // none: on the calling thread
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;  // of the output
  int64_t max_shard_bytes = 5'000'000'000;                                // of one safetensors file
  const std::atomic<bool>* stop = nullptr;  // once it is set the work ends, cancelled, and leaves nothing
};

using GgufMetadataValue = std::variant<uint32_t, int64_t, float, bool, std::string, std::vector<std::string>,
                                       std::vector<int32_t>, std::vector<float>, uint16_t>;
using GgufMetadata = std::vector<std::pair<std::string, GgufMetadataValue>>;

// One new file, version 3. metadata is written as it is; general.alignment is added.
Status write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                  std::span<const OutputTensor> tensors, const WriteOptions& options = {});

// model.safetensors, or shards with their index, in a directory that exists.
Status write_safetensors(const std::filesystem::path& directory, std::span<const OutputTensor> tensors,
                         const WriteOptions& options = {});

Status write_text_file(const std::filesystem::path& path, std::string_view text);

}  // namespace redoubt
