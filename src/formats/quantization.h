// quantization_config of config.json: how the matrices of a directory were quantised, by whichever program.
// What is not understood is refused by the field's name: a silent guess would be wrong weights.
// Source: the configurations that AutoAWQ, GPTQModel, compressed-tensors and bitsandbytes write. Page:
// docs/formats/quantised-directories.md.
#pragma once

#include <cstdint>
#include <string>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

struct QuantizationConfig {
  enum class Method : uint8_t {
    none,
    fp8,   // DeepSeek's blocks of 128 x 128
    awq,   // the gemm layout
    gptq,  // format 1 (zero points stored less one) and 2
    int8,  // compressed-tensors: bytes, a scale for a row, for a group of its columns or for all
    nf4,   // bitsandbytes
  };
  Method method = Method::none;
  int bits = 0;
  int64_t group_size = 0;       // columns under one scale; -1: all
  bool zeros_less_one = false;  // gptq format 1

  bool operator==(const QuantizationConfig&) const = default;
};

// `config`: the whole of config.json. Errors: unsupported or corrupt_data, naming the field.
Result<QuantizationConfig> parse_quantization_config(const Json& config);
std::string to_string(const QuantizationConfig& config);  // "gptq, 4 bits in groups of 128"; "" for none

}  // namespace redoubt
