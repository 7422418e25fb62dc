// One step as the layers see it: which rows belong to which sequence, where they stand, and what they attend to.
#pragma once

#include <vector>

#include "model/model.h"
#include "ops/attention.h"
#include "ops/rope.h"

namespace redoubt {

struct Step {
  OpContext ctx;
  std::vector<ChunkView> expanded, direct;  // prompts whose keys MLA expands, and all others; rows are disjoint
  std::vector<int32_t> tokens, positions;   // [T]
  Tensor angles;                            // [T, rope dim]
  StepObserver* observer = nullptr;

  // Writes row t of x [T, width] to the cache, for every token.
  void append(const CacheLayer& layer, Tensor x) {
    for (const auto* chunks : {&expanded, &direct}) {
      for (const ChunkView& chunk : *chunks) {
        for (int64_t t = 0; t < chunk.tokens; ++t) {
          cache_store(ctx.kernels, layer, chunk.blocks, chunk.position + t, x.row(chunk.first_row + t));
        }
      }
    }
  }
};

// The layers of one architecture.
class Layers {
 public:
  virtual ~Layers() = default;
  virtual int64_t cache_width() const = 0;       // values a token keeps in each layer
  virtual int64_t num_cache_layers() const = 0;  // with MTP
  virtual int64_t rope_dim() const = 0;
  virtual const RopeTable& rope() const = 0;
  virtual int64_t arena_floats(const StepLimits& limits, int threads) const = 0;  // of one layer, beyond x itself
  virtual void forward(Step& step, int64_t layer, const CacheLayer& cache,
                       Tensor x) const = 0;  // x [T, hidden], in place
};

struct MtpWeights {
  const float *enorm = nullptr, *hnorm = nullptr, *head_norm = nullptr;
  Weight eh_proj;  // [hidden, 2 hidden]: embedding half first
};

}  // namespace redoubt
