// redoubt perplexity: how well a model predicts a text, and how far two kernel tables are apart over it.
// The rule: the first windows of `window` ids, no BOS unless asked, each from an empty cache; every id of a window but
// its first is scored.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "apps/command.h"
#include "apps/model_flags.h"
#include "apps/solo_sequence.h"
#include "apps/terminal.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

struct PerplexityFlags {
  ModelFlags model;
  std::string file, against;
  int64_t window = 512, windows = 0;
  bool add_bos = false, json = false;
};

// log of the sum of exp, in double: the sum over 100,000 scores must not cost digits.
double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float value : logits) sum += std::exp(static_cast<double>(value) - largest);
  return largest + std::log(sum);
}

double divergence(std::span<const float> p_logits, std::span<const float> q_logits) {  // KL(p || q)
  const double p_norm = log_sum_exp(p_logits), q_norm = log_sum_exp(q_logits);
  double sum = 0;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = p_logits[i] - p_norm, log_q = q_logits[i] - q_norm;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  return sum;
}

size_t first_choice(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Mean and a 95 % interval of the perplexity. Tokens of one window lean on one another, so the spread is that of the
// windows' means.
Json interval(const std::vector<double>& window_means, double mean) {
  if (window_means.size() < 2) return nullptr;
  double squares = 0;
  for (const double value : window_means) squares += (value - mean) * (value - mean);
  const auto n = static_cast<double>(window_means.size());
  const double error = 1.96 * std::sqrt(squares / (n - 1) / n);
  return {std::exp(mean - error), std::exp(mean + error)};
}

struct Tally {
  double loss = 0, other_loss = 0, kl = 0;
  int64_t tokens = 0, same_top = 0;
  std::vector<double> window_means;
};

Status score_window(std::span<const int32_t> ids, SoloSequence& sequence, SoloSequence* other, Tally& tally) {
  std::vector<float> reference;  // [ids-1, vocab] of the other table
  if (other != nullptr) {
    REDOUBT_CHECK(other->prefill(ids, [&](int64_t position, std::span<const float> row) {
      if (position + 1 < static_cast<int64_t>(ids.size())) reference.insert(reference.end(), row.begin(), row.end());
    }));
  }
  double loss = 0;
  const auto score = [&](int64_t position, std::span<const float> row) {
    const auto next = static_cast<size_t>(position + 1);
    if (next >= ids.size()) return;
    loss += log_sum_exp(row) - row[static_cast<size_t>(ids[next])];
    if (other == nullptr) return;
    const auto theirs =
        std::span<const float>(reference).subspan(static_cast<size_t>(position) * row.size(), row.size());
    tally.other_loss += log_sum_exp(theirs) - theirs[static_cast<size_t>(ids[next])];
    tally.kl += divergence(theirs, row);
    tally.same_top += first_choice(theirs) == first_choice(row) ? 1 : 0;
  };
  REDOUBT_CHECK(sequence.prefill(ids, score));
  const auto scored = static_cast<int64_t>(ids.size()) - 1;
  tally.loss += loss;
  tally.tokens += scored;
  tally.window_means.push_back(loss / static_cast<double>(scored));
  return ok();
}

Status perplexity(const PerplexityFlags& flags) {
  const StepLimits limits{.max_tokens = 256, .max_logits = 256};
  REDOUBT_TRY(const std::string text, read_text_file(flags.file));
  REDOUBT_TRY(const OpenModel open, open_model(flags.model, limits));
  REDOUBT_TRY(const Tokenizer tokenizer, Tokenizer::open(open.checkpoint->path()));
  if (flags.window > open.model->config().max_position_embeddings) {
    return invalid(
        fmt::format("--window: at most the model's context, {}", open.model->config().max_position_embeddings),
        "--window");
  }
  std::vector<int32_t> ids = tokenizer.encode(MarkedText::all_markup(text));
  if (flags.add_bos && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  for (const int32_t id : ids) {
    if (id >= open.model->config().vocab_size)
      return corrupt(fmt::format("the tokenizer gives id {}, the model has {}", id, open.model->config().vocab_size));
  }
  const auto whole = static_cast<int64_t>(ids.size()) / flags.window;
  const int64_t windows = flags.windows == 0 ? whole : std::min(flags.windows, whole);
  if (windows == 0) {
    return invalid(
        fmt::format("{}: {} tokens, expected at least one window of {}", flags.file, ids.size(), flags.window));
  }

  OpenModel other;
  std::unique_ptr<SoloSequence> other_sequence;
  if (!flags.against.empty()) {
    ModelFlags against = flags.model;
    against.kernels = flags.against;
    against.cache_type = ModelFlags{}.cache_type;  // what --cache-type costs is a part of how far they are apart
    REDOUBT_TRY(other, open_model(against, limits));
    REDOUBT_TRY(SoloSequence sequence, SoloSequence::create(*other.model, flags.window));
    other_sequence = std::make_unique<SoloSequence>(std::move(sequence));
  }
  REDOUBT_TRY(SoloSequence sequence, SoloSequence::create(*open.model, flags.window));

  Tally tally;
  Progress progress("perplexity", windows);
  for (int64_t i = 0; i < windows; ++i) {
    const auto window =
        std::span(ids).subspan(static_cast<size_t>(i * flags.window), static_cast<size_t>(flags.window));
    REDOUBT_CHECK(score_window(window, sequence, other_sequence.get(), tally));
    progress.set(i + 1);
  }
  const auto tokens = static_cast<double>(tally.tokens);
  Json result{{"perplexity", std::exp(tally.loss / tokens)},
              {"interval", interval(tally.window_means, tally.loss / tokens)},
              {"tokens", tally.tokens},
              {"kernels", open.model->kernels_name()}};
  if (other_sequence) {
    result["against"] = other.model->kernels_name();
    result["against_perplexity"] = std::exp(tally.other_loss / tokens);
    result["mean_kl"] = tally.kl / tokens;
    result["same_top"] = static_cast<double>(tally.same_top) / tokens;
  }
  REDOUBT_CHECK(write_stdout(dump_json(result) + "\n"));
  open.model->wait_until_kept();
  if (other.model != nullptr) other.model->wait_until_kept();
  return ok();
}

}  // namespace

void add_perplexity(CLI::App& app, Pending& pending) {
  auto* command =
      app.add_subcommand("perplexity", "How well a model predicts a text; how far two kernel tables differ");
  auto flags = std::make_shared<PerplexityFlags>();
  add_model_flags(*command, flags->model, true);
  command->add_option("--cache-type", flags->model.cache_type, "f32, bf16 or q8")->capture_default_str();
  command->add_option("--window", flags->window, "Tokens in a window")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--windows", flags->windows, "At most so many windows; 0: the whole text")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--against", flags->against, "Another kernel table to compare with, such as reference")
      ->check(kernel_names());
  command->add_flag("--add-bos", flags->add_bos, "Put the beginning-of-sequence token in front of the text");
  command->add_flag("--json", flags->json, "One JSON object (it always is)");
  command->add_option("file", flags->file, "Text, UTF-8")->required();
  command->callback([=, &pending] { pending.action = [flags] { return perplexity(*flags); }; });
}

}  // namespace redoubt
