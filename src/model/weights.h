// Finds a checkpoint's tensors by name, checks their shapes, and gives them the form that ops take. Matrices stay where
// the file is mapped, or are packed for the kernels, at their stored size; vectors (norms, biases) and FP8 scales
// become float32 of our own. Errors name the tensor, what was expected and what was found.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "kernels/kernel_table.h"
#include "model/packed_store.h"

namespace redoubt {

class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, const KernelTable& kernels, std::deque<std::vector<float>>& storage,
               PackedStore& packed)
      : checkpoint_(checkpoint),
        kernels_(kernels),
        packed_kernels_(choose_packed(kernels.packed())),
        storage_(storage),
        packed_(packed) {}

  bool has(const std::string& name) const { return checkpoint_.find(name) != nullptr; }
  // name without ".weight"; [rows, cols], or the same elements in three dimensions.
  Result<Weight> matrix(const std::string& name, int64_t rows, int64_t cols);
  // The same, in the packed form too where the kernels have one: for what is multiplied whole.
  Result<Weight> packed(const std::string& name, int64_t rows, int64_t cols);
  void pack(Weight& weight);
  Result<const float*> vector(const std::string& full_name, int64_t elements);
  Result<MlpWeights> mlp(const std::string& prefix, int64_t hidden, int64_t inner);

 private:
  const Checkpoint& checkpoint_;
  const KernelTable& kernels_;
  const PackedKernels packed_kernels_;
  std::deque<std::vector<float>>& storage_;
  PackedStore& packed_;
};

}  // namespace redoubt
