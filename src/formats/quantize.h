// A model with its matrices in fewer bits: bf16 and fp8 (DeepSeek's blocks, safetensors), or bf16 q8_0 q4_0 q4_k q6_k
// (GGUF). Norms, biases and the router stay F32 (in safetensors: as stored, at least BF16). The head, whose error
// reaches every logit directly, keeps at least 6 bits. A matrix whose rows are no multiple of 256 takes a 32-element
// type instead, and the report says so.
#pragma once

#include <filesystem>

#include "formats/convert.h"

namespace redoubt {

struct QuantizeOptions {
  DType type = DType::q4_k;
  ThreadPool* pool = nullptr;
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
  const std::atomic<bool>* stop = nullptr;  // as in WriteOptions
};

Result<ConvertReport> quantize(const std::filesystem::path& in, const std::filesystem::path& out,
                               const QuantizeOptions& options);

}  // namespace redoubt
