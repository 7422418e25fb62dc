#include "formats/inspect.h"

#include <fmt/format.h>

#include "core/mapped_file.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_names.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

// "license: mit" in the YAML head of the model card.
std::string licence_of_card(const SideFiles& files) {
  const auto text = files.read("README.md", 1 << 20);
  if (!text || !text->starts_with("---")) return {};
  const size_t end = text->find("\n---", 3), at = text->find("\nlicense:");
  if (at == std::string::npos || at > end) return {};
  const size_t begin = text->find_first_not_of(" '\"", at + 9), line = text->find_first_of("'\"\r\n", begin);
  return begin == std::string::npos ? std::string() : text->substr(begin, line - begin);
}

std::string in_bytes(int64_t bytes) {
  static constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double scaled = static_cast<double>(bytes);
  size_t unit = 0;
  for (; scaled >= 1024 && unit < 4; ++unit) scaled /= 1024;
  return fmt::format("{:.{}f} {}", scaled, unit == 0 ? 0 : 2, kUnits[unit]);
}

std::string in_parameters(int64_t value) {
  if (value >= 1'000'000'000) return fmt::format("{:.2f} billion", static_cast<double>(value) / 1e9);
  if (value >= 1'000'000) return fmt::format("{:.2f} million", static_cast<double>(value) / 1e6);
  return fmt::format("{}", value);
}

}  // namespace

Result<ModelSummary> inspect(const fs::path& path) {
  REDOUBT_TRY(const Checkpoint model, Checkpoint::open(path));
  const ModelConfig& config = model.config();
  ModelSummary s;
  s.path = path.string();
  s.name = config.name;
  s.container = model.packed_file() != nullptr ? "packed" : model.gguf() != nullptr ? "gguf" : "safetensors";
  s.architecture = config.model_type;
  s.context = config.max_position_embeddings;
  s.vocab_size = config.vocab_size;
  s.layers = config.num_hidden_layers;
  s.hidden_size = config.hidden_size;
  s.experts = config.n_routed_experts;
  s.experts_per_token = config.num_experts_per_tok;
  s.weights_bytes = model.weights_bytes();
  s.quantization = to_string(model.quantization());
  int64_t routed = 0;  // parameters in routed experts, MTP apart
  for (const TensorView& tensor : model.tensors()) {
    ++s.tensors;
    ModelSummary::TypeCount& type = s.types[std::string(info(tensor.dtype).name)];
    ++type.tensors;
    type.elements += tensor.elements();
    type.bytes += tensor.stored_bytes();
    if (tensor.name.ends_with("_scale_inv")) continue;
    s.parameters += tensor.elements();
    const auto layer = hf_layer(tensor.name);
    if (layer && layer->layer >= config.num_hidden_layers) {
      s.mtp_parameters += tensor.elements();
    } else if (layer && layer->rest.starts_with("mlp.experts.")) {
      routed += tensor.elements();
    }
  }
  s.active_parameters = s.parameters - s.mtp_parameters - routed;
  if (config.n_routed_experts > 0) s.active_parameters += routed / config.n_routed_experts * config.num_experts_per_tok;
  s.has_template = !model.chat_template().empty();
  s.licence = model.gguf() != nullptr ? std::string(model.gguf()->string("general.license").value_or(""))
                                      : licence_of_card(model.files());
  return s;
}

Json to_json(const ModelSummary& s) {
  Json types = Json::object();
  for (const auto& [name, count] : s.types) {
    types[name] = {{"tensors", count.tensors}, {"elements", count.elements}, {"bytes", count.bytes}};
  }
  return {{"path", s.path},
          {"name", s.name},
          {"container", s.container},
          {"architecture", s.architecture},
          {"parameters", s.parameters},
          {"active_parameters", s.active_parameters},
          {"mtp_parameters", s.mtp_parameters},
          {"weights_bytes", s.weights_bytes},
          {"quantization", s.quantization.empty() ? Json() : Json(s.quantization)},
          {"tensors", s.tensors},
          {"types", types},
          {"layers", s.layers},
          {"hidden_size", s.hidden_size},
          {"experts", s.experts},
          {"experts_per_token", s.experts_per_token},
          {"vocab_size", s.vocab_size},
          {"context_length", s.context},
          {"chat_template", s.has_template},
          {"licence", s.licence.empty() ? Json() : Json(s.licence)}};
}

std::string to_text(const ModelSummary& s) {
  std::string text = fmt::format("{} ({}, {})\n", s.name, s.architecture, s.container);
  text += fmt::format("parameters   {}", in_parameters(s.parameters));
  if (s.experts > 0) text += fmt::format(", {} for a token", in_parameters(s.active_parameters));
  if (s.mtp_parameters > 0) text += fmt::format(", {} in MTP modules", in_parameters(s.mtp_parameters));
  text += fmt::format("\nweights      {} in {} tensors\n", in_bytes(s.weights_bytes), s.tensors);
  for (const auto& [name, count] : s.types) {
    text += fmt::format("  {:<8}   {:>10} in {} tensors\n", name, in_bytes(count.bytes), count.tensors);
  }
  if (!s.quantization.empty()) text += fmt::format("quantised    {}\n", s.quantization);
  text += fmt::format("layers       {} of width {}", s.layers, s.hidden_size);
  if (s.experts > 0) text += fmt::format(", {} experts, {} for a token", s.experts, s.experts_per_token);
  text += fmt::format("\nvocabulary   {}\ncontext      {} tokens\ntemplate     {}\nlicence      {}\n", s.vocab_size,
                      s.context, s.has_template ? "yes" : "none", s.licence.empty() ? "not stated" : s.licence);
  return text;
}

}  // namespace redoubt
