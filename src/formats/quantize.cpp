#include "formats/quantize.h"

#include <fmt/format.h>

#include <map>

#include "formats/blocks.h"
#include "formats/model_plan.h"
#include "formats/tensor_shapes.h"

namespace redoubt {
namespace {

bool supported(DType type, Container target) {
  switch (type) {
    case DType::bf16:
      return true;
    case DType::f8_e4m3:
      return target == Container::safetensors;
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_k:
    case DType::q6_k:
      return target == Container::gguf;
    default:
      return false;
  }
}

// The same bits or a little more, in blocks of 32.
DType smaller_blocks(DType type) { return type == DType::q6_k ? DType::q8_0 : DType::q5_0; }

}  // namespace

Result<ConvertReport> quantize(const std::filesystem::path& in, const std::filesystem::path& out,
                               const QuantizeOptions& options) {
  const Container target = container_of(out);
  if (target == Container::packed) {
    return invalid("out: expected a .gguf file or a directory; convert makes a packed file of either", "out");
  }
  if (!supported(options.type, target)) {
    return invalid(fmt::format("type: expected {}, found {}",
                               target == Container::gguf ? "bf16, q8_0, q4_0, q4_k or q6_k for a .gguf file"
                                                         : "bf16 or fp8 for a directory",
                               info(options.type).name),
                   "type");
  }
  REDOUBT_CHECK(check_output_is_new(out, target));
  REDOUBT_TRY(const Checkpoint model, Checkpoint::open(in));
  REDOUBT_CHECK(check_shapes(model));
  const bool tied = model.config().tie_word_embeddings;
  std::map<std::pair<int64_t, DType>, int> fallbacks;  // row length and the type taken instead: matrices
  const TypePolicy policy = [&](TensorRole role, DType stored, int64_t cols) {
    if (role == TensorRole::kept)
      return target == Container::safetensors && stored == DType::bf16 ? DType::bf16 : DType::f32;
    if (options.type == DType::f8_e4m3) return role == TensorRole::matrix ? DType::f8_e4m3 : DType::bf16;
    DType type = options.type;
    const bool gives_logits = role == TensorRole::head || (role == TensorRole::embedding && tied);
    if (gives_logits && (type == DType::q4_k || type == DType::q4_0)) type = DType::q6_k;
    const DType wanted = type;
    if (cols % info(type).block_elems != 0) type = smaller_blocks(type);
    if (cols % info(type).block_elems != 0) type = DType::bf16;
    if (type != wanted) ++fallbacks[{cols, type}];
    return type;
  };
  REDOUBT_TRY(ModelPlan plan, target == Container::gguf ? plan_gguf(model, policy) : plan_safetensors(model, policy));
  for (const auto& [what, count] : fallbacks) {
    plan.notes.push_back(
        fmt::format("{} matrices with rows of {} values, which the wanted type's blocks do not divide, took {}.", count,
                    what.first, info(what.second).name));
  }
  return write_model(model, std::move(plan), out, target,
                     {.pool = options.pool, .progress = options.progress, .stop = options.stop});
}

}  // namespace redoubt
