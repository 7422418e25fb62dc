#include <fmt/format.h>

#include "core/json.h"
#include "formats/model_writer.h"
#include "formats/output_file.h"
#include "formats/safetensors.h"

namespace redoubt {
namespace {

// Built as text: our ordered Json looks a key up by walking all others, and R1 has 92,000.
Result<std::string> header_of(std::span<const OutputTensor> tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  int64_t offset = 0;
  for (const OutputTensor& tensor : tensors) {
    const std::string_view type = safetensors_dtype_name(tensor.dtype);
    if (type.empty()) {
      return invalid(fmt::format("tensor '{}': safetensors has no type {}", tensor.name, info(tensor.dtype).name));
    }
    json += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", dump_json(Json(tensor.name)),
                        type, fmt::join(tensor.shape, ","), offset, offset + tensor.bytes());
    offset += tensor.bytes();
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  return json;
}

Status write_shard(const std::filesystem::path& path, std::span<const OutputTensor> tensors, WriteProgress& progress) {
  REDOUBT_TRY(const std::string header, header_of(tensors));
  REDOUBT_TRY(OutputFile file, OutputFile::create(path));
  const uint64_t length = header.size();
  REDOUBT_CHECK(file.write(std::as_bytes(std::span(&length, 1))));
  REDOUBT_CHECK(file.write(header));
  for (const OutputTensor& tensor : tensors) REDOUBT_CHECK(write_tensor(file, tensor, progress));
  return file.finish();
}

// Consecutive runs of tensors, each of at most max_bytes unless one tensor alone is larger.
std::vector<std::span<const OutputTensor>> split(std::span<const OutputTensor> tensors, int64_t max_bytes) {
  std::vector<std::span<const OutputTensor>> shards;
  size_t begin = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > begin && bytes + tensors[i].bytes() > max_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += tensors[i].bytes();
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

}  // namespace

Status write_safetensors(const std::filesystem::path& directory, std::span<const OutputTensor> tensors,
                         const WriteOptions& options) {
  WriteProgress progress{options};
  for (const OutputTensor& tensor : tensors) progress.total_bytes += tensor.bytes();
  const auto shards = split(tensors, options.max_shard_bytes);
  if (shards.size() == 1) return write_shard(directory / "model.safetensors", shards.front(), progress);
  std::string map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:06}.safetensors", i + 1, shards.size());
    REDOUBT_CHECK(write_shard(directory / name, shards[i], progress));
    for (const OutputTensor& tensor : shards[i]) {
      map += fmt::format("{}{}:\"{}\"", map.empty() ? "" : ",", dump_json(Json(tensor.name)), name);
    }
  }
  return write_text_file(
      directory / "model.safetensors.index.json",
      fmt::format(R"({{"metadata":{{"total_size":{}}},"weight_map":{{{}}}}})", progress.total_bytes, map));
}

}  // namespace redoubt
