// Finds a checkpoint's tensors by name, checks their shapes, and gives them the form that ops take. Matrices stay where
// the file is mapped, or are packed for the kernels, at their stored size; vectors (norms, biases) and FP8 scales
// become float32 of our own. Errors name the file and the tensor in it, what was expected and what was found.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "kernels/kernel_table.h"
#include "model/packed_store.h"
#include "ops/mlp.h"

namespace redoubt {

// How closely a packed matrix of integer codes sees its input (docs/decisions/0004). fine: what int8 rounds off is
// multiplied too. Keys, values and the head ask for it; a small model has it everywhere.
enum class Inputs : uint8_t { int8, fine };

class WeightLoader {
 public:
  // packed: null where weights are computed with as stored.
  WeightLoader(const Checkpoint& checkpoint, const KernelTable& kernels, ThreadPool& pool,
               std::deque<std::vector<float>>& storage, PackedStore* packed)
      : checkpoint_(checkpoint),
        kernels_(kernels),
        packed_kernels_(choose_packed(kernels.packed())),
        pool_(pool),
        storage_(storage),
        packed_(packed) {}

  bool has(const std::string& name) const { return checkpoint_.find(name) != nullptr; }
  // name without ".weight"; [rows, cols], or the same elements in three dimensions.
  Result<Weight> matrix(const std::string& name, int64_t rows, int64_t cols);
  // The same, in the packed form too where the kernels have one: for what is multiplied whole.
  Result<Weight> packed(const std::string& name, int64_t rows, int64_t cols, Inputs inputs = Inputs::int8);
  // Packed, and as stored too: for what is also multiplied with its rows. Another program's matrix is not packed.
  Result<Weight> projection(const std::string& name, int64_t rows, int64_t cols);
  void pack(const std::string& name, Weight& weight, Inputs inputs);
  Result<const float*> vector(const std::string& full_name, int64_t elements);
  Result<MlpWeights> mlp(const std::string& prefix, int64_t hidden, int64_t inner);

 private:
  // The tensor NAME.weight, its shape and type checked.
  Result<const TensorView*> find_matrix(const std::string& name, int64_t rows, int64_t cols);
  Status add_bias(const std::string& name, Weight& weight);
  Status add_scales(const std::string& name, Weight& weight);
  Status verify(const TensorView& tensor);  // the hashes that a packed file has of it
  // Memory for a matrix in another layout, filled with its rows of blocks on all threads.
  std::vector<float> read_blocks(const TensorView& tensor);
  const int32_t* column_order(const std::vector<int32_t>& columns);

  const Checkpoint& checkpoint_;
  const KernelTable& kernels_;
  const PackedKernels packed_kernels_;
  ThreadPool& pool_;
  std::deque<std::vector<float>>& storage_;
  PackedStore* packed_;
  std::deque<const std::vector<int32_t>*> orders_;  // the last few: neighbours often have the same
};

}  // namespace redoubt
