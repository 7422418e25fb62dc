// The tensors of a checkpoint while it is opened: names kept, found by hash, refused twice. And the two ways to fill
// it.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/mapped_file.h"
#include "core/result.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/side_files.h"

namespace redoubt {

struct TensorTable {
  std::deque<std::string> names;  // what TensorView::name points into
  std::vector<TensorView> tensors;
  std::unordered_map<std::string_view, size_t> index;
  int64_t weights_bytes = 0;

  Status add(std::string name, DType dtype, std::vector<int64_t> shape, std::span<const std::byte> data);
  const TensorView* find(std::string_view name) const;
};

// All tensors of a directory's safetensors files; with an index, those it names, each in the file it names.
Status load_safetensors(const std::filesystem::path& directory, TensorTable& table, std::vector<MappedFile>& mapped);

// The tensors of a packed file that is a model of its own. Errors: corrupt_data, naming the tensor.
Status load_packed(std::shared_ptr<const PackedFile> file, TensorTable& table);

// The tensors of a GGUF file under their Hugging Face names, stacked experts as one slice each.
Status load_gguf(const GgufFile& file, const ModelConfig& config, TensorTable& table);

// A weight of FP8 blocks is a matrix and has one f32 scale for each 128 x 128 values, the last row and column of blocks
// cut short. No other tensor of that type has scales.
Status check_fp8_scales(const TensorTable& table);

// chat_template.jinja, else tokenizer_config.json's chat_template (a string, or of a list the one named "default"),
// else "".
Result<std::string> read_chat_template(const SideFiles& files);

}  // namespace redoubt
