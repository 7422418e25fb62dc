// A Hugging Face model directory: its safetensors shards, and the chat template among its JSON files.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

#include "formats/quantized_matrix.h"
#include "formats/safetensors.h"
#include "formats/shown.h"
#include "formats/tensor_table.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIndexBytes = 64 << 20;    // R1's takes 9 MB
constexpr size_t kMaxTemplateBytes = 1 << 20;  // the longest published one takes 20 KB
constexpr size_t kMaxTokenizerConfig = 16 << 20;

struct Shard {
  std::string file;
  std::vector<std::string> expected;  // tensors that the index places here
};

// Without an index: model.safetensors, or every .safetensors file there is.
Result<std::vector<Shard>> shards_without_index(const fs::path& directory) {
  std::vector<Shard> shards;
  std::error_code error;
  if (fs::exists(directory / "model.safetensors", error)) return std::vector<Shard>{{"model.safetensors", {}}};
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".safetensors") shards.push_back({at->path().filename().string(), {}});
  }
  if (shards.empty()) return not_found("expected a .safetensors file, found none");
  std::ranges::sort(shards, {}, &Shard::file);
  return shards;
}

Result<std::vector<Shard>> list_shards(const fs::path& directory) {
  const fs::path index = directory / "model.safetensors.index.json";
  std::error_code error;
  if (!fs::exists(index, error)) return shards_without_index(directory);
  REDOUBT_TRY(const std::string text, read_text_file(index, kMaxIndexBytes));
  auto map = parse_safetensors_index(text);
  if (!map) return std::move(map).error().within(index.filename().string());
  std::map<std::string, Shard> files;
  for (const auto& [tensor, file] : *map) {
    files[file].file = file;
    files[file].expected.push_back(tensor);
  }
  std::vector<Shard> shards;
  for (auto& [name, shard] : files) shards.push_back(std::move(shard));
  return shards;
}

// Tensors of a file that the index does not place there are left out, as the reference loader does.
Status add_shard(const fs::path& directory, const Shard& shard, TensorTable& table, std::vector<MappedFile>& mapped) {
  REDOUBT_TRY(MappedFile bytes, MappedFile::open(directory / shard.file));
  REDOUBT_TRY(SafetensorsFile file, parse_safetensors(bytes.bytes(), shard.file));
  mapped.push_back(std::move(bytes));
  std::vector<std::string_view> expected(shard.expected.begin(), shard.expected.end());
  std::ranges::sort(expected);
  size_t found = 0;
  for (TensorView& tensor : file.tensors) {
    if (!expected.empty() && !std::ranges::binary_search(expected, tensor.name)) continue;
    ++found;
    Status added = table.add(std::string(tensor.name), tensor.dtype, std::move(tensor.shape), tensor.data);
    if (!added) return std::move(added).error().within(shard.file);
  }
  if (found < expected.size()) {
    for (const std::string_view name : expected) {
      if (table.find(name) == nullptr) {
        return corrupt(
            fmt::format("{}: expected tensor {}, which the index places there, found none", shard.file, shown(name)));
      }
    }
  }
  return ok();
}

}  // namespace

Status load_safetensors(const fs::path& directory, TensorTable& table, std::vector<MappedFile>& mapped) {
  REDOUBT_TRY(const std::vector<Shard> shards, list_shards(directory));
  for (const Shard& shard : shards) REDOUBT_CHECK(add_shard(directory, shard, table, mapped));
  return check_fp8_scales(table);
}

Status check_fp8_scales(const TensorTable& table) {
  const auto blocks = [](int64_t n) { return n / 128 + (n % 128 != 0 ? 1 : 0); };
  for (const TensorView& tensor : table.tensors) {
    if (tensor.dtype != DType::f8_e4m3) continue;
    const TensorView* scale = table.find(std::string(tensor.name) + "_scale_inv");
    if (scale == nullptr) continue;
    if (tensor.shape.size() != 2 || (tensor.source != nullptr && !tensor.source->columns.empty())) {
      return unsupported(fmt::format("tensor {}: its scales are for a matrix with its columns in order, found [{}]",
                                     shown(tensor.name), fmt::join(tensor.shape, ", ")));
    }
    const std::vector<int64_t> expected{blocks(tensor.shape[0]), blocks(tensor.shape[1])};
    if (scale->dtype != DType::f32 || scale->shape != expected || scale->source != nullptr) {
      return corrupt(fmt::format("tensor {}: expected f32 [{}, {}], one for each 128 x 128 weights, found {} [{}]",
                                 shown(scale->name), expected[0], expected[1], info(scale->dtype).name,
                                 fmt::join(scale->shape, ", ")));
    }
  }
  return ok();
}

Result<std::string> read_chat_template(const SideFiles& files) {
  if (files.has("chat_template.jinja")) return files.read("chat_template.jinja", kMaxTemplateBytes);
  if (!files.has("tokenizer_config.json")) return std::string();
  REDOUBT_TRY(const std::string text, files.read("tokenizer_config.json", kMaxTokenizerConfig));
  simdjson::dom::parser parser;
  simdjson::dom::object config;
  if (parser.parse(text).get(config) != simdjson::SUCCESS) {
    return corrupt(files.where("tokenizer_config.json") + ": expected a JSON object");
  }
  const auto source = config["chat_template"];
  if (std::string_view one; source.get(one) == simdjson::SUCCESS) return std::string(one);
  simdjson::dom::array list;
  if (source.get(list) != simdjson::SUCCESS) return std::string();
  for (const simdjson::dom::element entry : list) {
    std::string_view name, body;
    if (entry["name"].get(name) == simdjson::SUCCESS && name == "default" &&
        entry["template"].get(body) == simdjson::SUCCESS) {
      return std::string(body);
    }
  }
  return std::string();
}

}  // namespace redoubt
