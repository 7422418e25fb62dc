// redoubt logits: the raw scores of a prefill, for comparison with other implementations.
#include <fmt/format.h>

#include <memory>

#include "apps/command.h"
#include "apps/model_flags.h"
#include "apps/solo_sequence.h"
#include "apps/terminal.h"
#include "apps/token_list.h"
#include "core/json.h"
#include "formats/npy.h"

namespace redoubt {
namespace {

struct LogitsFlags {
  ModelFlags model;
  std::string tokens, out;
  bool mtp = false, json = false;
};

Status logits(const LogitsFlags& flags) {
  REDOUBT_TRY(const OpenModel open, open_model(flags.model));
  Model& model = *open.model;
  const int64_t vocab = model.config().vocab_size;
  REDOUBT_TRY(const std::vector<int32_t> tokens, parse_token_list(flags.tokens, vocab, "--tokens"));
  if (tokens.empty()) return invalid("--tokens: expected at least one id", "--tokens");
  const auto count = static_cast<int64_t>(tokens.size());
  if (count > model.config().max_position_embeddings) {
    return Error{
        ErrorCode::context_length,
        fmt::format("--tokens: {} ids, the model's context is {}", count, model.config().max_position_embeddings),
        "--tokens"};
  }
  std::vector<float> scores;
  if (flags.mtp) {
    if (!model.has_mtp()) return unsupported("--mtp: the model has no multi-token prediction module", "--mtp");
    if (count < 2) return invalid("--mtp: expected at least two tokens", "--tokens");
    REDOUBT_CHECK(model.reserve_cache((count + kCacheBlockTokens - 1) / kCacheBlockTokens));
    scores.resize(static_cast<size_t>((count - 1) * vocab));
    REDOUBT_CHECK(model.mtp_logits(tokens, scores));
    REDOUBT_CHECK(model.damage());
  } else {
    REDOUBT_TRY(SoloSequence sequence, SoloSequence::create(model, count));
    Progress progress("logits", count);
    scores.reserve(static_cast<size_t>(count * vocab));
    REDOUBT_CHECK(sequence.prefill(tokens, [&](int64_t position, std::span<const float> row) {
      scores.insert(scores.end(), row.begin(), row.end());
      progress.set(position + 1);
    }));
  }
  const int64_t shape[] = {flags.mtp ? count - 1 : count, vocab};
  REDOUBT_CHECK(write_npy(flags.out, scores, shape));
  if (flags.json) {
    REDOUBT_CHECK(write_stdout(
        dump_json(Json{{"out", flags.out}, {"shape", {shape[0], shape[1]}}, {"kernels", model.kernels_name()}}) +
        "\n"));
  }
  model.wait_until_kept();
  return ok();
}

}  // namespace

void add_logits(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("logits", "Scores of a prefill as a .npy file: float32 [tokens, vocabulary]");
  auto flags = std::make_shared<LogitsFlags>();
  add_model_flags(*command, flags->model, true);
  command->add_option("--tokens", flags->tokens, "Token ids: \"1 2 3\"")->required();
  command->add_option("--out", flags->out, "File to write")->required();
  command->add_flag("--mtp", flags->mtp, "Of the multi-token prediction module: [tokens-1, vocabulary]");
  command->add_flag("--json", flags->json, "Print the shape and the kernels used");
  command->callback([=, &pending] { pending.action = [flags] { return logits(*flags); }; });
}

}  // namespace redoubt
