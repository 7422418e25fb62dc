#include "formats/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "core/lower_case.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

using Method = QuantizationConfig::Method;

Error unknown(std::string_view field, std::string_view expected, const Json& found) {
  return unsupported(fmt::format("quantization_config: {}: expected {}, found {}", field, expected,
                                 found.is_null() ? "nothing" : shown(dump_json(found))));
}

const Json& member(const Json& object, const char* key) {  // null if absent
  static const Json kNothing;
  const auto it = object.find(key);
  return it == object.end() ? kNothing : *it;
}

std::string lower(const Json& value, std::string_view otherwise) {
  return lower_case(value.is_string() ? value.get<std::string>() : value.is_null() ? std::string(otherwise) : "?");
}

bool is_unset(const Json& value) {
  return value.is_null() || ((value.is_object() || value.is_array()) && value.empty());
}

Result<int64_t> integer(const Json& object, const char* key, std::initializer_list<int64_t> allowed,
                        std::string_view expected) {
  const Json& value = member(object, key);
  if (!value.is_number_integer()) return unknown(key, expected, value);
  const auto number = value.get<int64_t>();
  if (std::ranges::find(allowed, number) == allowed.end()) return unknown(key, expected, value);
  return number;
}

Result<int64_t> group_size(const Json& object) {
  const Json& value = member(object, "group_size");
  constexpr std::string_view kExpected = "-1 or a multiple of 32 up to 65536";
  if (!value.is_number_integer()) return unknown("group_size", kExpected, value);
  const auto size = value.get<int64_t>();
  if (size != -1 && (size < 32 || size > 65536 || size % 32 != 0)) return unknown("group_size", kExpected, value);
  return size;
}

Result<QuantizationConfig> parse_fp8(const Json& q) {
  const Json& block = member(q, "weight_block_size");
  if (block != Json::array({128, 128})) return unknown("weight_block_size", "[128,128]", block);
  return QuantizationConfig{.method = Method::fp8, .bits = 8, .group_size = 128};
}

Result<QuantizationConfig> parse_awq(const Json& q) {
  QuantizationConfig config{.method = Method::awq};
  const Json& version = member(q, "version");
  if (lower(version, "gemm") != "gemm") return unknown("version", "gemm", version);
  const Json& zero_point = member(q, "zero_point");
  if (!zero_point.is_null() && zero_point != Json(true)) return unknown("zero_point", "true", zero_point);
  REDOUBT_TRY(const int64_t bits, integer(q, q.contains("bits") ? "bits" : "w_bit", {4}, "4"));
  config.bits = static_cast<int>(bits);
  if (q.contains("group_size")) {
    REDOUBT_TRY(config.group_size, group_size(q));
  } else {  // AutoAWQ's own file
    REDOUBT_TRY(config.group_size, integer(q, "q_group_size", {-1, 32, 64, 128}, "-1, 32, 64 or 128"));
  }
  return config;
}

Result<QuantizationConfig> parse_gptq(const Json& q) {
  QuantizationConfig config{.method = Method::gptq};
  REDOUBT_TRY(const int64_t bits, integer(q, "bits", {4, 8}, "4 or 8"));
  config.bits = static_cast<int>(bits);
  REDOUBT_TRY(config.group_size, group_size(q));
  const Json& format = member(q, q.contains("checkpoint_format") ? "checkpoint_format" : "format");
  const std::string name = lower(format, "gptq");
  if (name != "gptq" && name != "gptq_v2") return unknown("checkpoint_format", "gptq or gptq_v2", format);
  config.zeros_less_one = name == "gptq";
  const Json& word = member(q, "pack_dtype");
  if (lower(word, "int32") != "int32") return unknown("pack_dtype", "int32", word);
  const Json& dynamic = member(q, "dynamic");
  if (!is_unset(dynamic)) {
    if (!dynamic.is_object()) return unknown("dynamic", "an object", dynamic);
    for (const auto& [pattern, settings] : dynamic.items()) {  // "-:": modules left as they are
      if (!pattern.starts_with("-:")) return unknown("dynamic", "patterns that begin with '-:'", Json(pattern));
    }
  }
  return config;
}

Status check_activations(const Json& activations) {
  if (activations.is_null()) return ok();
  if (!activations.is_object()) return unknown("input_activations", "an object", activations);
  const Json& bits = member(activations, "num_bits");
  if (bits != Json(8)) return unknown("input_activations.num_bits", "8", bits);
  const Json& dynamic = member(activations, "dynamic");
  if (dynamic != Json(true)) return unknown("input_activations.dynamic", "true", dynamic);
  return ok();
}

Result<QuantizationConfig> parse_compressed_tensors(const Json& q) {
  const Json& format = member(q, "format");
  const std::string name = lower(format, "");
  if (name != "int-quantized" && name != "naive-quantized") return unknown("format", "int-quantized", format);
  for (const char* key : {"kv_cache_scheme", "transform_config"}) {
    if (!is_unset(member(q, key))) return unknown(key, "nothing", member(q, key));
  }
  const Json& sparsity = member(q, "sparsity_config");
  if (!is_unset(sparsity) && lower(member(sparsity, "format"), "") != "dense") {
    return unknown("sparsity_config", "nothing, or format dense", sparsity);
  }
  const Json& groups = member(q, "config_groups");
  if (!groups.is_object() || groups.empty()) return unknown("config_groups", "at least one group", groups);
  QuantizationConfig config{.method = Method::int8, .bits = 8};
  for (const auto& [group_name, group] : groups.items()) {
    if (!group.is_object()) return unknown("config_groups", "objects", group);
    const Json& weights = member(group, "weights");
    if (!weights.is_object()) return unknown("weights", "an object", weights);
    if (member(weights, "num_bits") != Json(8)) return unknown("weights.num_bits", "8", member(weights, "num_bits"));
    if (lower(member(weights, "type"), "int") != "int") return unknown("weights.type", "int", member(weights, "type"));
    const std::string strategy = lower(member(weights, "strategy"), "channel");
    if (strategy != "channel" && strategy != "tensor" && strategy != "group") {
      return unknown("weights.strategy", "channel, tensor or group", member(weights, "strategy"));
    }
    if (!is_unset(member(weights, "actorder")) && lower(member(weights, "actorder"), "") != "weight" &&
        member(weights, "actorder") != Json(false)) {
      return unknown("weights.actorder", "nothing or weight", member(weights, "actorder"));
    }
    config.group_size = -1;
    if (strategy == "group") {
      REDOUBT_TRY(config.group_size, group_size(weights));
    }
    REDOUBT_CHECK(check_activations(member(group, "input_activations")));
    if (!member(group, "output_activations").is_null()) {
      return unknown("output_activations", "nothing", member(group, "output_activations"));
    }
  }
  return config;
}

Result<QuantizationConfig> parse_bitsandbytes(const Json& q) {
  const Json& four = member(q, member(q, "load_in_4bit").is_null() ? "_load_in_4bit" : "load_in_4bit");
  if (four != Json(true)) return unknown("load_in_4bit", "true", four);
  const Json& type = member(q, "bnb_4bit_quant_type");
  if (lower(type, "fp4") != "nf4") return unknown("bnb_4bit_quant_type", "nf4", type);
  const Json& storage = member(q, "bnb_4bit_quant_storage");
  if (lower(storage, "uint8") != "uint8") return unknown("bnb_4bit_quant_storage", "uint8", storage);
  return QuantizationConfig{.method = Method::nf4, .bits = 4, .group_size = 64};
}

}  // namespace

Result<QuantizationConfig> parse_quantization_config(const Json& config) {
  if (!config.is_object()) return QuantizationConfig{};
  const Json& q = member(config, config.contains("quantization_config") ? "quantization_config" : "compression_config");
  if (q.is_null()) return QuantizationConfig{};
  if (!q.is_object()) return unknown("itself", "an object", q);
  const std::string method = lower(member(q, "quant_method"), "");
  if (method == "fp8") return parse_fp8(q);
  if (method == "awq") return parse_awq(q);
  if (method == "gptq") return parse_gptq(q);
  if (method == "compressed-tensors") return parse_compressed_tensors(q);
  if (method == "bitsandbytes") return parse_bitsandbytes(q);
  return unknown("quant_method", "fp8, awq, gptq, compressed-tensors or bitsandbytes", member(q, "quant_method"));
}

std::string to_string(const QuantizationConfig& config) {
  const std::string groups = config.group_size > 0 ? fmt::format(" in groups of {}", config.group_size) : "";
  switch (config.method) {
    case Method::none:
      return "";
    case Method::fp8:
      return "fp8, blocks of 128 x 128";
    case Method::awq:
      return fmt::format("awq, {} bits{}", config.bits, groups);
    case Method::gptq:
      return fmt::format("gptq{}, {} bits{}", config.zeros_less_one ? "" : " format 2", config.bits, groups);
    case Method::int8:
      return fmt::format("compressed-tensors, {} bits{}", config.bits,
                         groups.empty() ? ", a scale for each row" : groups);
    case Method::nf4:
      return "bitsandbytes nf4, blocks of 64";
  }
  return "";
}

}  // namespace redoubt
