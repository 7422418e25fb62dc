// The safetensors container: u64 header length, a JSON header naming each tensor's type, shape and byte range, the
// bytes. Everything is checked before use: the ranges tile the buffer without hole or overlap, sizes follow from
// shapes. Errors: corrupt_data, one sentence naming file, tensor, expected, found. Page: docs/formats/safetensors.md.
#pragma once

#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "formats/checkpoint.h"

namespace redoubt {

struct SafetensorsFile {
  std::vector<TensorView> tensors;  // in the order of the file's bytes; views borrow from the parsed bytes
  std::map<std::string, std::string> metadata;
  std::deque<std::string> names;  // what TensorView::name points into
};

// `bytes` must outlive the result. `file` names it in errors.
Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> bytes, std::string_view file);

// model.safetensors.index.json: tensor name -> file name, a plain name in the same directory.
Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view json);

std::string_view safetensors_dtype_name(DType dtype);  // "BF16"; "" for types the container does not have

}  // namespace redoubt
