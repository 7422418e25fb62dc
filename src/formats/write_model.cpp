#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "core/mapped_file.h"
#include "formats/config_json.h"
#include "formats/gguf.h"
#include "formats/model_plan.h"
#include "formats/output_directory.h"
#include "formats/shown.h"
#include "formats/tokenizer_keys.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

// The type of most bytes: what general.file_type and torch_dtype name.
DType main_type(const std::vector<OutputTensor>& tensors) {
  std::map<DType, int64_t> bytes;
  for (const OutputTensor& tensor : tensors) bytes[tensor.dtype] += tensor.bytes();
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? DType::f32 : most->first;
}

uint32_t file_type(DType type) {
  switch (type) {
    case DType::f32:
      return 0;
    case DType::f16:
      return 1;
    case DType::q4_0:
      return 2;
    case DType::q4_1:
      return 3;
    case DType::q8_0:
      return 7;
    case DType::q5_0:
      return 8;
    case DType::q5_1:
      return 9;
    case DType::q4_k:
      return 15;
    case DType::q5_k:
      return 17;
    case DType::q6_k:
      return 18;
    case DType::bf16:
      return 32;
    default:
      return 1024;  // "guessed" from the tensors
  }
}

// Tokenizer keys of a GGUF source, as they are.
void copy_tokenizer_keys(const GgufFile& from, GgufMetadata& metadata) {
  for (const auto& [key, value] : from.metadata()) {
    if (!key.starts_with("tokenizer.") && !key.starts_with("general.sampling.") && key != "general.license") continue;
    if (key == "tokenizer.chat_template") continue;  // written for both kinds of source
    const std::string name(key);
    if (value.type == GgufType::string) {
      metadata.emplace_back(name, std::string(*from.string(key)));
    } else if (value.type == GgufType::boolean) {
      metadata.emplace_back(name, *from.boolean(key));
    } else if (value.type == GgufType::f32 || value.type == GgufType::f64) {
      metadata.emplace_back(name, static_cast<float>(*from.number(key)));
    } else if (value.type == GgufType::array) {
      if (const auto strings = from.strings(key)) {
        metadata.emplace_back(name, std::vector<std::string>(strings->begin(), strings->end()));
      } else if (const auto floats = from.floats(key)) {
        metadata.emplace_back(name, *floats);
      } else if (const auto integers = from.integers(key)) {
        metadata.emplace_back(name, std::vector<int32_t>(integers->begin(), integers->end()));
      }
    } else if (const auto integer = from.integer(key); integer && *integer >= 0 && *integer <= UINT32_MAX) {
      metadata.emplace_back(name, static_cast<uint32_t>(*integer));
    }
  }
}

Result<std::vector<std::string>> write_gguf_model(const Checkpoint& model, ModelPlan& plan, const fs::path& out,
                                                  const WriteOptions& options) {
  ModelConfig config = model.config();
  if (model.find(fmt::format("model.layers.{}.eh_proj.weight", config.num_hidden_layers)) == nullptr) {
    config.num_nextn_predict_layers = 0;  // announced, but not in these files
  }
  GgufMetadata metadata = config_to_gguf(config);
  metadata.emplace_back("general.file_type", file_type(main_type(plan.tensors)));
  metadata.emplace_back("general.quantization_version", uint32_t{2});
  if (model.gguf() != nullptr) {
    copy_tokenizer_keys(*model.gguf(), metadata);
    if (const auto kept = model.gguf()->string("redoubt.config_json")) {
      metadata.emplace_back("redoubt.config_json", std::string(*kept));
    }
  } else {
    add_generation_keys(model.generation(), metadata);
    REDOUBT_CHECK(add_tokenizer_keys(model.files(), config.vocab_size, model.generation(), metadata, plan.notes));
    REDOUBT_TRY(std::string json, model.files().read("config.json"));
    metadata.emplace_back("redoubt.config_json", std::move(json));
  }
  if (std::string source = model.chat_template(); !source.empty()) {
    metadata.emplace_back("tokenizer.chat_template", std::move(source));
  }
  if (!plan.stored_as_bf16.empty()) metadata.emplace_back("redoubt.stored_as_bf16", plan.stored_as_bf16);
  // Llama 3's scaling travels as one divisor per pair.
  std::vector<float> divisors = config.rope.freq_divisors;
  if (config.rope.scaling == RopeConfig::Scaling::llama3) divisors = llama3_divisors(config.rope, config.head_dim);
  if (!divisors.empty()) {
    OutputTensor tensor{"rope_freqs.weight", DType::f32, {static_cast<int64_t>(divisors.size())}, 1, {}};
    tensor.fill = [divisors](int64_t, int64_t, std::byte* to) {
      std::memcpy(to, divisors.data(), divisors.size() * 4);
    };
    plan.tensors.insert(plan.tensors.begin(), std::move(tensor));
  }
  REDOUBT_CHECK(write_gguf(out, metadata, plan.tensors, options));
  return std::move(plan.notes);
}

std::string torch_dtype(DType type) {
  return type == DType::f32 ? "float32" : type == DType::f16 ? "float16" : "bfloat16";
}

// config.json of the source, if it came along; else made from what GGUF says.
Result<Json> config_for(const Checkpoint& model) {
  if (model.gguf() == nullptr) {
    REDOUBT_TRY(const std::string text, model.files().read("config.json"));
    return parse_json(text);
  }
  if (const auto kept = model.gguf()->string("redoubt.config_json")) {
    const auto json = parse_json(*kept);
    if (json && parse_model_config(*json).has_value()) return *json;
  }
  return config_to_json(model.config(), "float32");
}

Result<std::vector<std::string>> write_directory(const Checkpoint& model, ModelPlan& plan, const fs::path& out,
                                                 const WriteOptions& options) {
  REDOUBT_TRY(OutputDirectory directory, OutputDirectory::create(out));
  REDOUBT_TRY(Json config, config_for(model));
  const DType type = main_type(plan.tensors);
  config["torch_dtype"] = torch_dtype(type);
  config.erase("quantization_config");
  if (type == DType::f8_e4m3) {
    config["quantization_config"] = {
        {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {128, 128}}};
  }
  REDOUBT_CHECK(write_safetensors(out, plan.tensors, options));
  if (model.gguf() != nullptr) {
    REDOUBT_CHECK(write_tokenizer_files(*model.gguf(), out, plan.notes));
    REDOUBT_CHECK(write_text_file(out / "generation_config.json",
                                  dump_json(generation_to_json(model.generation(), model.gguf()))));
  } else {
    for (const std::string_view name : kModelSideFiles) {
      if (!model.files().has(name)) continue;
      REDOUBT_TRY(const std::string text, model.files().read(name));
      REDOUBT_CHECK(write_text_file(out / name, text));
    }
  }
  REDOUBT_CHECK(directory.finish(config.dump(2)));
  return std::move(plan.notes);
}

// A directory that is empty, but for what is being written or was left by a process that was killed: whose lock is free
// tells which (core/new_file.h).
bool has_no_file(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator at(folder, error), end;
  for (; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".partial") return false;
  }
  return !error;
}

}  // namespace

Status check_output_is_new(const fs::path& out, Container target) {
  std::error_code error;
  if (!fs::exists(out, error) || has_no_file(out)) {
    if (target == Container::safetensors || !fs::is_directory(out, error)) return ok();
  }
  return invalid(fmt::format("{}: expected a new file or an empty directory, found one that exists", out.string()));
}

Result<ConvertReport> write_model(const Checkpoint& model, ModelPlan plan, const fs::path& out, Container target,
                                  const WriteOptions& options) {
  ConvertReport report;
  if (target == Container::gguf) {
    REDOUBT_TRY(report.notes, write_gguf_model(model, plan, out, options));
  } else {
    REDOUBT_TRY(report.notes, write_directory(model, plan, out, options));
  }
  report.tensors = static_cast<int64_t>(plan.tensors.size());
  report.bytes_in = model.weights_bytes();
  for (const OutputTensor& tensor : plan.tensors) report.bytes_out += tensor.bytes();
  return report;
}

}  // namespace redoubt
