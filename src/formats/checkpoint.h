// A model on disk, whatever its container: a directory of safetensors, a GGUF file (split sets too) or a packed file.
//
// Tensors are found by their Hugging Face names in both cases, so that one loader serves both:
//   GGUF blk.3.ffn_gate_exps.weight, expert 17 -> "model.layers.3.mlp.experts.17.gate_proj.weight"
//   GGUF blk.3.attn_k_b / attn_v_b             -> "model.layers.3.self_attn.k_b_proj.weight" [heads, kv_lora, nope]
//                                                 "model.layers.3.self_attn.v_b_proj.weight" [heads, v_dim, kv_lora]
//   MTP: "model.layers.<num_hidden_layers>.{eh_proj,enorm,hnorm,...}" from blk.N.nextn.*.
// Shapes are in Hugging Face order, outermost first. GGUF `llama` keeps its permuted q/k rows (rope_style interleaved).
// Every tensor was checked against its file when the checkpoint was opened: offsets, sizes, overlap, block multiples.
// Lifetime: views borrow from the mapped files and live as long as the Checkpoint. Thread safety: const after open.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/model_config.h"
#include "formats/quantization.h"
#include "formats/side_files.h"

namespace redoubt {

class GgufFile;
class PackedFile;         // formats/packed_file.h
struct PackedFileTensor;  // of it
struct RowSource;         // formats/quantized_matrix.h

struct TensorView {
  std::string_view name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // no alignment promised (safetensors promises none)
  // Set where another program's layout, or the packed form, has yet to become rows of blocks; data is empty then.
  std::shared_ptr<const RowSource> source = nullptr;
  const PackedFileTensor* packed = nullptr;  // where it lies in the checkpoint's packed file; null without one

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    return n;
  }
  int64_t stored_bytes() const;  // in the file
  void release_pages() const;    // its mapped bytes will hardly be read again (core/mapped_file.h)
};

// What tells one version of a checkpoint's files from another without reading all of them.
struct SourceKey {
  int64_t bytes = 0;         // of all files
  int64_t modified_ns = 0;   // the latest of them, since 1970
  uint64_t header_hash = 0;  // of each file's bytes before its first tensor, its size and its time
  bool operator==(const SourceKey&) const = default;
};

class Checkpoint {
 public:
  // `path`: a directory, a .gguf file (the first of a split set), or a packed file that is a model of its own.
  static Result<Checkpoint> open(const std::filesystem::path& path);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::filesystem::path& path() const;
  const ModelConfig& config() const;
  const GenerationConfig& generation() const;
  const QuantizationConfig& quantization() const;  // of a safetensors directory
  const GgufFile* gguf() const;    // null for safetensors; the tokenizer of a GGUF model is in its metadata
  const SideFiles& files() const;  // beside safetensors, or in the packed file
  std::shared_ptr<const PackedFile> packed_file() const;  // null: not one
  std::string chat_template() const;  // "" if the model has none (chat_template.jinja, tokenizer_config.json, GGUF key)

  // By Hugging Face name; nullptr if absent. A DeepSeek FP8 weight's scales are `name + "_scale_inv"`.
  const TensorView* find(std::string_view name) const;
  // "FILE: tensor 'NAME'" for messages: the file that holds the tensor and its own name there (of a stack's part the
  // part's name too); of an absent one the model's path and the name that is looked for.
  std::string place_of(std::string_view name) const;
  std::span<const TensorView> tensors() const;  // in file order, for inspect and convert; stored names and slices
  int64_t weights_bytes() const;
  SourceKey source_key() const;
  // Compares the hashes of a tensor of a packed file; others have none. Errors: corrupt_data, naming tensor and chunk.
  Status verify(const TensorView& tensor, ThreadPool* pool = nullptr) const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace redoubt
