// redoubt bench: tokens a second of prefill and decode over random ids, beside what this machine could do at most.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>

#include "apps/command.h"
#include "apps/machine.h"
#include "apps/model_flags.h"
#include "apps/terminal.h"
#include "apps/weight_traffic.h"
#include "core/json.h"

namespace redoubt {
namespace {

struct BenchFlags {
  ModelFlags model;
  int64_t prompt = 512, gen = 64, batch = 1, depth = 0;
  bool json = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `batch` sequences of equal length with a cache of their own each.
class Workload {
 public:
  Workload(Model& model, const BenchFlags& flags) : model_(&model), flags_(flags) {
    blocks_per_sequence_ = (flags.depth + std::max(flags.prompt, flags.gen) + kCacheBlockTokens) / kCacheBlockTokens;
    blocks_.resize(static_cast<size_t>(blocks_per_sequence_ * flags.batch));
    std::iota(blocks_.begin(), blocks_.end(), 0);
    logits_.resize(static_cast<size_t>(flags.batch * model.config().vocab_size));
  }
  int64_t blocks() const { return blocks_per_sequence_ * flags_.batch; }

  // Tokens [begin, end) of every sequence as prompt, in full steps; logits of the last token alone, as a server asks.
  void prefill(int64_t begin, int64_t end, Progress& progress) {
    for (int64_t sequence = 0; sequence < flags_.batch; ++sequence) {
      for (int64_t at = begin; at < end; at += model_->limits().max_tokens) {
        const std::vector<int32_t> tokens = random_ids(std::min(model_->limits().max_tokens, end - at));
        const SequenceChunk chunk{.tokens = tokens,
                                  .position = at,
                                  .form = AttentionForm::prefill,
                                  .blocks = table(sequence),
                                  .num_logits = at + static_cast<int64_t>(tokens.size()) == end ? 1 : 0};
        model_->step({&chunk, 1},
                     std::span(logits_).first(static_cast<size_t>(chunk.num_logits * model_->config().vocab_size)));
        progress.set(done_ += static_cast<int64_t>(tokens.size()));
      }
    }
  }

  void decode(int64_t position, int64_t steps, Progress& progress) {
    for (int64_t step = 0; step < steps; ++step) {
      const std::vector<int32_t> tokens = random_ids(flags_.batch);
      std::vector<SequenceChunk> chunks;
      for (int64_t sequence = 0; sequence < flags_.batch; ++sequence) {
        chunks.push_back({.tokens = std::span(tokens).subspan(static_cast<size_t>(sequence), 1),
                          .position = position + step,
                          .form = AttentionForm::decode,
                          .blocks = table(sequence),
                          .num_logits = 1});
      }
      model_->step(chunks, logits_);
      progress.set(done_ += flags_.batch);
    }
  }

 private:
  std::span<const int32_t> table(int64_t sequence) const {
    return std::span(blocks_).subspan(static_cast<size_t>(sequence * blocks_per_sequence_),
                                      static_cast<size_t>(blocks_per_sequence_));
  }
  std::vector<int32_t> random_ids(int64_t count) {
    std::uniform_int_distribution<int32_t> any(0, static_cast<int32_t>(model_->config().vocab_size - 1));
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = any(random_);
    return ids;
  }

  Model* model_;
  BenchFlags flags_;
  int64_t blocks_per_sequence_ = 0, done_ = 0;
  std::vector<int32_t> blocks_;
  std::vector<float> logits_;
  std::mt19937 random_{1};
};

Json measure(const BenchFlags& flags, const OpenModel& open, Workload& work) {
  Model& model = *open.model;
  const WeightTraffic traffic = weight_traffic(*open.checkpoint);
  double prefill_rate = 0, decode_rate = 0;
  {
    Progress progress("bench",
                      flags.batch * (flags.depth + flags.prompt + flags.gen + std::min<int64_t>(flags.gen, 4)));
    if (flags.depth > 0) work.prefill(0, flags.depth, progress);
    if (flags.prompt > 0) {
      const auto start = std::chrono::steady_clock::now();
      work.prefill(flags.depth, flags.depth + flags.prompt, progress);
      prefill_rate = static_cast<double>(flags.batch * flags.prompt) / seconds_since(start);
    }
    if (flags.gen > 0) {
      work.decode(flags.depth, std::min<int64_t>(flags.gen, 4), progress);  // warm-up, overwritten below
      const auto start = std::chrono::steady_clock::now();
      work.decode(flags.depth, flags.gen, progress);
      decode_rate = static_cast<double>(flags.batch * flags.gen) / seconds_since(start);
    }
  }
  ThreadPool pool(model.threads());
  const Ceilings ceilings = measure_ceilings(pool);
  const auto share = [](double rate, double ceiling) -> Json {
    return rate > 0 && ceiling > 0 ? Json(rate / ceiling) : Json(nullptr);
  };
  const double read_rate = decode_rate / static_cast<double>(flags.batch) * traffic.bytes_per_step(flags.batch);
  return {{"model", open.checkpoint->config().name},
          {"kernels", model.kernels_name()},
          {"threads", model.threads()},
          {"prompt", flags.prompt},
          {"gen", flags.gen},
          {"batch", flags.batch},
          {"depth", flags.depth},
          {"prefill_tokens_per_s", flags.prompt > 0 ? Json(prefill_rate) : Json(nullptr)},
          {"decode_tokens_per_s", flags.gen > 0 ? Json(decode_rate) : Json(nullptr)},
          {"weights_bytes_per_token", static_cast<int64_t>(traffic.bytes_per_token())},
          {"read_bandwidth_bytes_per_s", ceilings.read_bandwidth_bytes_per_s},
          {"int8_ops_per_s", ceilings.int8_ops_per_s},
          {"share_of_ceiling",
           {{"prefill", share(prefill_rate * 2 * traffic.weights_per_token(), ceilings.int8_ops_per_s)},
            {"decode", share(read_rate, ceilings.read_bandwidth_bytes_per_s)}}},
          {"peak_rss_bytes", peak_rss_bytes()}};
}

std::string as_table(const Json& result) {
  std::string text;
  for (const auto& [key, value] : result.items()) {
    if (key != "share_of_ceiling")
      text += fmt::format("{:<28} {}\n", key, value.is_string() ? value.get<std::string>() : dump_json(value));
  }
  for (const auto& [key, value] : result.at("share_of_ceiling").items()) {
    if (value.is_number()) text += fmt::format("{:<28} {:.1f} % of the ceiling\n", key, value.get<double>() * 100);
  }
  return text;
}

Status bench(const BenchFlags& flags) {
  const StepLimits limits{.max_tokens = 512,
                          .max_logits = std::max<int64_t>(flags.batch, 1),
                          .max_chunks = std::max<int64_t>(flags.batch, 1)};
  REDOUBT_TRY(const OpenModel open, open_model(flags.model, limits));
  const int64_t longest = flags.depth + std::max(flags.prompt, flags.gen);
  if (longest > open.model->config().max_position_embeddings) {
    return invalid(fmt::format("--depth: {} tokens in all, the model's context is {}", longest,
                               open.model->config().max_position_embeddings),
                   "--depth");
  }
  Workload work(*open.model, flags);
  REDOUBT_CHECK(open.model->reserve_cache(work.blocks()));
  const Json result = measure(flags, open, work);
  return write_stdout(flags.json ? dump_json(result) + "\n" : as_table(result));
}

}  // namespace

void add_bench(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("bench", "Tokens a second, beside what this machine could do at most");
  auto flags = std::make_shared<BenchFlags>();
  add_model_flags(*command, flags->model, true);
  const auto count = CLI::Range(int64_t{0}, int64_t{1} << 24);
  command->add_option("--prompt", flags->prompt, "Prompt tokens; 0: none")->check(count)->capture_default_str();
  command->add_option("--gen", flags->gen, "Generated tokens; 0: none")->check(count)->capture_default_str();
  command->add_option("--batch", flags->batch, "Sequences at once")->check(CLI::Range(1, 512))->capture_default_str();
  command->add_option("--depth", flags->depth, "Tokens in the cache before")->check(count)->capture_default_str();
  command->add_option("--cache-type", flags->model.cache_type, "f32, bf16 or q8")->capture_default_str();
  command->add_flag("--json", flags->json, "One JSON object");
  command->callback([=, &pending] { pending.action = [flags] { return bench(*flags); }; });
}

}  // namespace redoubt
