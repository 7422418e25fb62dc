// What a model on disk is, at a glance: redoubt inspect.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

struct ModelSummary {
  struct TypeCount {
    int64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::string path, name, container;  // container: "safetensors", "gguf" or "packed"
  std::string architecture;           // model_type of config.json
  int64_t parameters = 0;             // weights, block scales not counted
  int64_t active_parameters = 0;      // of one token: routed experts by their share
  int64_t mtp_parameters = 0;         // of those, in MTP modules
  int64_t weights_bytes = 0;
  std::string quantization;  // what quantization_config says; "" if nothing
  int64_t tensors = 0;
  int64_t context = 0, vocab_size = 0, layers = 0, hidden_size = 0, experts = 0, experts_per_token = 0;
  std::map<std::string, TypeCount> types;
  bool has_template = false;
  std::string licence;  // "" if the files do not say
};

Result<ModelSummary> inspect(const std::filesystem::path& path);
Json to_json(const ModelSummary& summary);
std::string to_text(const ModelSummary& summary);  // lines for a person

}  // namespace redoubt
