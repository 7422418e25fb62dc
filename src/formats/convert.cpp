#include "formats/convert.h"

#include <fmt/format.h>

#include "formats/blocks.h"
#include "formats/model_plan.h"
#include "formats/packed_file.h"
#include "formats/packed_model.h"
#include "formats/safetensors.h"
#include "formats/tensor_shapes.h"

namespace redoubt {

namespace fs = std::filesystem;

namespace {

bool is_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

// The narrowest type of the container that holds a stored type exactly.
DType exact_type(DType stored, Container target) {
  if (target == Container::gguf) return info(stored).ggml_type >= 0 ? stored : DType::f32;
  return safetensors_dtype_name(stored).empty() ? DType::f32 : stored;
}

// The program's own file of that name would be made again whenever its model changes.
Status check_is_no_kept_name(const fs::path& out) {
  std::error_code error;
  const fs::path folder = out.has_parent_path() ? out.parent_path() : ".", file = folder / out.stem();
  const bool is_of_folder =
      fs::exists(folder / "config.json", error) && kept_packed_path(folder).filename() == out.filename();
  const bool is_of_file = fs::is_regular_file(file, error) && kept_packed_path(file).filename() == out.filename();
  if (!is_of_folder && !is_of_file) return ok();
  return invalid(fmt::format("{}: expected another name: the packed weights of {} are kept under this one",
                             out.string(), (is_of_file ? file : folder).string()));
}

}  // namespace

Result<ConvertReport> convert(const std::filesystem::path& in, const std::filesystem::path& out,
                              const ConvertOptions& options) {
  const Container target = options.to.value_or(container_of(out));
  if (target == Container::packed && options.type) {
    return invalid("type: a packed file keeps the types as stored; convert or quantize before it", "type");
  }
  if (options.type && !is_float(*options.type)) {
    return invalid(fmt::format("type: convert writes f32, f16 or bf16, found {}; quantize writes the others",
                               info(*options.type).name),
                   "type");
  }
  REDOUBT_CHECK(check_output_is_new(out, target));
  if (target == Container::packed) REDOUBT_CHECK(check_is_no_kept_name(out));
  REDOUBT_TRY(const Checkpoint model, Checkpoint::open(in));
  REDOUBT_CHECK(check_shapes(model));
  if (target == Container::packed) {
    return write_packed_model(model, out, {.pool = options.pool, .progress = options.progress, .stop = options.stop});
  }
  bool lossy = false, widened = false;
  const TypePolicy policy = [&](TensorRole role, DType stored, int64_t) {
    const DType exact = exact_type(stored, target);
    if (role == TensorRole::kept) {  // other readers of GGUF expect these in F32
      return target == Container::gguf ? DType::f32 : exact;
    }
    if (!options.type) {
      widened |= exact != stored;
      return exact;
    }
    lossy |= *options.type != exact && *options.type != DType::f32;
    return *options.type;
  };
  REDOUBT_TRY(ModelPlan plan, target == Container::gguf ? plan_gguf(model, policy) : plan_safetensors(model, policy));
  if (widened) plan.notes.push_back("Quantised weights were written as f32, which is exact and larger.");
  if (lossy) plan.notes.push_back(fmt::format("Weights were rounded to {}: lossy.", info(*options.type).name));
  return write_model(model, std::move(plan), out, target,
                     {.pool = options.pool, .progress = options.progress, .stop = options.stop});
}

}  // namespace redoubt
