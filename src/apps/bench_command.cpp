// redoubt bench: tokens a second of prefill and decode over random ids, beside what this machine could do at most.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "apps/bench_workload.h"
#include "apps/command.h"
#include "apps/machine.h"
#include "apps/model_flags.h"
#include "apps/roofline.h"
#include "apps/terminal.h"
#include "core/json.h"
#include "engine/memory_room.h"

namespace redoubt {
namespace {

struct BenchFlags {
  ModelFlags model;
  BenchShape shape;
  int64_t repeat = 1;
  bool json = false;
};

// Before the first figure: a whole step maps the pages that a step writes, and the threads are awake.
constexpr int64_t kMaxStep = 512, kWarmSteps = 4;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

Json median_or_null(std::vector<double> values) {
  return values.empty() ? Json(nullptr) : Json(median(std::move(values)));
}

// One kind of work, measured `repeat` times, each between two measurements of the ceilings.
struct Figure {
  std::vector<double> rates, shares;  // tokens a second; share of the roofline, where that is known
  LeastTime least;

  Json rate() const { return rates.empty() ? Json(nullptr) : Json(median(rates)); }
  // More than the memory gives: what is read comes from the caches, wholly or in part, and that ceiling is not known.
  bool is_in_caches() const { return !shares.empty() && least.is_bound_by_memory() && median(shares) > 1; }
  Json share() const { return shares.empty() || is_in_caches() ? Json(nullptr) : Json(median(shares)); }
  Json bound() const { return shares.empty() ? Json(nullptr) : Json(is_in_caches() ? "caches" : least.bound()); }
  Json spread() const {
    if (rates.empty()) return nullptr;
    const auto [low, high] = std::minmax_element(rates.begin(), rates.end());
    return Json::array({*low, *high});
  }
};

class Measurement {
 public:
  Measurement(const BenchFlags& flags, const OpenModel& open)
      : flags_(flags),
        model_(*open.model),
        traffic_(weight_traffic(*open.checkpoint)),
        peak_before_(peak_rss_bytes()),
        pool_(open.model->threads()),
        probe_(pool_) {}

  void run(BenchWorkload& work) {
    const BenchShape& s = flags_.shape;
    if (s.depth > 0) work.prefill(0, s.depth);
    if (s.prompt > 0) work.prefill(s.depth, s.depth + std::min(s.prompt, kMaxStep));
    for (int64_t i = 0; i < flags_.repeat; ++i) {
      if (s.prompt > 0) {
        const StepShape shape{.depth = s.depth, .tokens = s.prompt, .batch = s.batch};
        measure(prefill_, prefill_work(model_.config(), traffic_, shape, model_.limits().max_tokens),
                s.batch * s.prompt, [&] { work.prefill(s.depth, s.depth + s.prompt); });
      }
      if (s.gen > 0) {
        work.decode(s.depth, std::min(s.gen, kWarmSteps));  // overwritten below
        const StepShape shape{.depth = s.depth, .tokens = s.gen, .batch = s.batch};
        const double cache_token_bytes =
            static_cast<double>(model_.cache_block_bytes()) / static_cast<double>(kCacheBlockTokens);
        measure(decode_, decode_work(model_.config(), traffic_, shape, cache_token_bytes), s.batch * s.gen,
                [&] { work.decode(s.depth, s.gen); });
      }
    }
  }

  // Tokens that run() computes, for the progress bar.
  int64_t total_tokens() const {
    const BenchShape& s = flags_.shape;
    return s.batch *
           (s.depth + std::min(s.prompt, kMaxStep) + flags_.repeat * (s.prompt + s.gen + std::min(s.gen, kWarmSteps)));
  }

  Json result(const OpenModel& open) {
    std::vector<double> read, int8, bf16;
    for (const Ceilings& c : ceilings_) {
      read.push_back(c.read_bandwidth_bytes_per_s);
      int8.push_back(c.int8_ops_per_s);
      bf16.push_back(c.bf16_flops_per_s);
    }
    // The probe's buffer was resident all the while, so what remains is the peak of everything else.
    const int64_t peak = std::max(peak_before_, peak_rss_bytes() - probe_.buffer_bytes());
    return {{"model", open.checkpoint->config().name},
            {"kernels", model_.kernels_name()},
            {"threads", model_.threads()},
            {"prompt", flags_.shape.prompt},
            {"gen", flags_.shape.gen},
            {"batch", flags_.shape.batch},
            {"depth", flags_.shape.depth},
            {"repeat", flags_.repeat},
            {"prefill_tokens_per_s", prefill_.rate()},
            {"decode_tokens_per_s", decode_.rate()},
            {"weights_bytes_per_token", static_cast<int64_t>(traffic_.bytes_per_token())},
            {"read_bandwidth_bytes_per_s", median_or_null(read)},
            {"int8_ops_per_s", median_or_null(int8)},
            {"bf16_flops_per_s", median_or_null(bf16)},
            {"int8_instruction", int8_instruction()},
            {"bf16_instruction", bf16_instruction()},
            {"share_of_ceiling", {{"prefill", prefill_.share()}, {"decode", decode_.share()}}},
            {"bound", {{"prefill", prefill_.bound()}, {"decode", decode_.bound()}}},
            {"spread", {{"prefill_tokens_per_s", prefill_.spread()}, {"decode_tokens_per_s", decode_.spread()}}},
            {"peak_rss_bytes", peak}};
  }

 private:
  template <class Body>
  void measure(Figure& figure, const Work& work, int64_t tokens, Body&& body) {
    const Ceilings before = probe_.measure();
    const auto start = std::chrono::steady_clock::now();
    body();
    const double seconds = seconds_since(start);
    const Ceilings after = probe_.measure();
    figure.rates.push_back(static_cast<double>(tokens) / seconds);
    figure.least = least_time(work, between(before, after));
    if (figure.least.seconds() > 0) figure.shares.push_back(figure.least.seconds() / seconds);
    ceilings_.insert(ceilings_.end(), {before, after});
  }

  const BenchFlags& flags_;
  Model& model_;
  WeightTraffic traffic_;
  int64_t peak_before_;
  ThreadPool pool_;
  CeilingProbe probe_;
  Figure prefill_, decode_;
  std::vector<Ceilings> ceilings_;
};

std::string as_table(const Json& result) {
  std::string text;
  for (const auto& [key, value] : result.items()) {
    if (value.is_object()) continue;
    const std::string shown = value.is_null()     ? "not measured"
                              : value.is_string() ? value.get<std::string>()
                                                  : dump_json(value);
    text += fmt::format("{:<28} {}\n", key, shown);
  }
  for (const auto& [key, value] : result.at("share_of_ceiling").items()) {
    if (result.at("bound").at(key) == "caches")
      text += fmt::format("{:<28} faster than this machine's memory: the weights are read from the caches\n", key);
    if (!value.is_number()) continue;
    text += fmt::format("{:<28} {:.1f} % of the ceiling ({})\n", key, value.get<double>() * 100,
                        result.at("bound").at(key).get<std::string>());
  }
  if (result.at("repeat").get<int64_t>() > 1) {
    for (const auto& [key, value] : result.at("spread").items()) {
      if (value.is_array()) {
        text += fmt::format("{:<28} {:.2f} to {:.2f}\n", key, value[0].get<double>(), value[1].get<double>());
      }
    }
  }
  return text;
}

// A cache that does not fit would be written to until everything swaps. Mapped weights look free and are not.
Status check_cache(const BenchFlags& flags, const OpenModel& open) {
  const int64_t mapped = open.checkpoint->weights_bytes() - open.model->private_weights_bytes();
  const int64_t free = available_memory_bytes(), available = std::max<int64_t>(0, free - std::max<int64_t>(0, mapped));
  const int64_t needed = flags.shape.blocks() * open.model->cache_block_bytes();
  if (free <= 0 || needed <= available) return ok();
  return io_error(
      fmt::format("the cache of --batch {} sequences of {} tokens needs {}, {} are available; take fewer or "
                  "shorter ones{}",
                  flags.shape.batch, flags.shape.longest(), human_bytes(needed), human_bytes(available),
                  flags.model.cache_type == "q8" ? "" : ", or --cache-type q8"));
}

Status bench(const BenchFlags& flags) {
  const StepLimits limits{.max_tokens = kMaxStep, .max_logits = flags.shape.batch, .max_chunks = flags.shape.batch};
  REDOUBT_TRY(const OpenModel open, open_model(flags.model, limits));
  if (flags.shape.longest() > open.model->config().max_position_embeddings) {
    return invalid(fmt::format("--depth: {} tokens in all, the model's context is {}", flags.shape.longest(),
                               open.model->config().max_position_embeddings),
                   "--depth");
  }
  REDOUBT_CHECK(check_cache(flags, open));
  open.model->wait_for_background();  // what it writes or verifies would be measured too
  REDOUBT_CHECK(open.model->damage());
  Json result;
  {
    std::unique_ptr<Progress> progress;
    BenchWorkload work(*open.model, flags.shape, [&](int64_t tokens) { progress->set(tokens); });
    REDOUBT_CHECK(open.model->reserve_cache(flags.shape.blocks()));
    Measurement measurement(flags, open);
    progress = std::make_unique<Progress>("bench", measurement.total_tokens());
    measurement.run(work);
    result = measurement.result(open);
  }
  return write_stdout(flags.json ? dump_json(result) + "\n" : as_table(result));
}

}  // namespace

void add_bench(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("bench", "Tokens a second, beside what this machine could do at most");
  auto flags = std::make_shared<BenchFlags>();
  add_model_flags(*command, flags->model, true);
  BenchShape& shape = flags->shape;
  const auto count = CLI::Range(int64_t{0}, int64_t{1} << 24);
  command->add_option("--prompt", shape.prompt, "Prompt tokens; 0: none")->check(count)->capture_default_str();
  command->add_option("--gen", shape.gen, "Generated tokens; 0: none")->check(count)->capture_default_str();
  command->add_option("--batch", shape.batch, "Sequences at once")->check(CLI::Range(1, 512))->capture_default_str();
  command->add_option("--depth", shape.depth, "Tokens in the cache before")->check(count)->capture_default_str();
  command->add_option("--repeat", flags->repeat, "Times each figure is measured; medians and spread are shown")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--cache-type", flags->model.cache_type, "f32, bf16 or q8")->capture_default_str();
  command->add_flag("--json", flags->json, "One JSON object");
  command->callback([=, &pending] { pending.action = [flags] { return bench(*flags); }; });
}

}  // namespace redoubt
