// The parsing of one GGUF file's bytes, behind GgufFile.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/gguf.h"

namespace redoubt {

struct GgufParts {
  std::vector<std::pair<std::string_view, GgufValue>> metadata;
  std::vector<GgufTensor> tensors;
  int64_t alignment = 32;
};

Result<GgufParts> read_gguf(std::span<const std::byte> bytes);
// Of a file that ends where its tensors would begin: their data is empty.
Result<GgufParts> read_gguf_head(std::span<const std::byte> bytes);

}  // namespace redoubt
