#include "server/engine_metrics.h"

#include <fmt/format.h>

#include "core/clock.h"

namespace redoubt {
namespace {

constexpr int64_t kRateNs = 1'000'000'000;  // throughput is measured over at least this

double share(uint64_t part, uint64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

MetricsRegistry::Sample adapters_in_use() {  // there are none
  return {"vllm:lora_requests_info",
          "Adapters in use; the value is the time of the scrape.",
          "gauge",
          {{"max_lora", "0"}, {"running_lora_adapters", ""}, {"waiting_lora_adapters", ""}},
          static_cast<double>(SystemWallClock().now_s())};
}

void step_sizes(const std::string& model, const EngineStats& total, EngineMetrics::Samples& out) {
  const auto add = [&](const char* suffix, MetricLabels labels, uint64_t value) {
    out.push_back({"vllm:iteration_tokens_total", "Tokens of a step.", "histogram", std::move(labels),
                   static_cast<double>(value), suffix});
  };
  uint64_t steps = 0;
  for (size_t i = 0; i < total.steps_of_size.size(); ++i) {
    steps += total.steps_of_size[i];
    MetricLabels labels = model_labels(model);
    labels.emplace_back("le", i < kStepSizeBounds.size() ? std::to_string(kStepSizeBounds[i]) : "+Inf");
    add("_bucket", std::move(labels), steps);
  }
  add("_sum", model_labels(model), total.step_tokens);
  add("_count", model_labels(model), steps);
}

}  // namespace

MetricLabels model_labels(const std::string& model) { return {{"model_name", model}, {"engine", "0"}}; }

void EngineMetrics::set_host(const ModelHost* host) {
  const std::lock_guard lock(mutex_);
  host_ = host;
}

void EngineMetrics::collect(Samples& samples) {
  const std::lock_guard lock(mutex_);
  if (host_ == nullptr) return;
  const auto loaded = host_->loaded();  // held until the end: none of them is retired meanwhile
  for (const ModelEntry& entry : host_->entries()) {
    const LoadedModel* found = nullptr;
    for (const auto& model : loaded) {
      if (model != nullptr && model->engine != nullptr && model->name == entry.name) found = model.get();
    }
    const EngineStats stats = found != nullptr ? found->engine->stats() : EngineStats{};
    gauges(entry.name, found, stats, host_->num_waiting(entry.name), samples);
    const EngineStats total = counted_together(host_->retired(entry.name), stats);
    counters(entry.name, total, samples);
    if (deprecated_) deprecated(entry.name, stats, total, samples);
  }
  samples.push_back(adapters_in_use());
}

double EngineMetrics::throughput(const std::string& model, uint64_t generation_tokens) {
  Rate& rate = rates_[model];
  const int64_t now = SteadyClock().now_ns();
  if (generation_tokens < rate.tokens) rate = {};  // the model was unloaded and came back
  const int64_t passed = now - rate.at_ns;
  if (rate.at_ns == 0) {
    rate = {.at_ns = now, .tokens = generation_tokens};
  } else if (passed >= kRateNs) {
    const auto tokens = static_cast<double>(generation_tokens - rate.tokens);
    rate = {.at_ns = now, .tokens = generation_tokens, .per_second = tokens / (static_cast<double>(passed) * 1e-9)};
  }
  return rate.per_second;
}

void EngineMetrics::gauges(const std::string& model, const LoadedModel* loaded, const EngineStats& stats,
                           int64_t waiting_for_load, Samples& out) {
  const auto gauge = [&](const char* name, const char* help, double value, const MetricLabels& more = {}) {
    MetricLabels labels = model_labels(model);
    labels.insert(labels.end(), more.begin(), more.end());
    out.push_back({name, help, "gauge", std::move(labels), value});
  };
  const auto running = static_cast<double>(stats.running), queued = static_cast<double>(stats.waiting);
  const auto deferred = static_cast<double>(waiting_for_load), waiting = queued + deferred;
  const double blocks = static_cast<double>(stats.cache_blocks_total);
  const double held = blocks > 0 ? static_cast<double>(stats.cache_blocks_held) / blocks : 0;
  constexpr const char* kReasonHelp = "Requests that wait, for room in the steps or for the model to be loaded.";
  gauge("vllm:num_requests_running", "Requests in steps.", running);
  gauge("vllm:num_requests_waiting", "Requests that wait.", waiting);
  gauge("vllm:num_requests_waiting_by_reason", kReasonHelp, queued, {{"reason", "capacity"}});
  gauge("vllm:num_requests_waiting_by_reason", kReasonHelp, deferred, {{"reason", "deferred"}});
  gauge("vllm:kv_cache_usage_perc", "Share of cache blocks held by live sequences, 0 to 1.", held);
  gauge("vllm:cache_config_info", "The cache; the value is always 1.", 1,
        {{"block_size", std::to_string(kCacheBlockTokens)},
         {"num_gpu_blocks", std::to_string(stats.cache_blocks_total)}});

  gauge("sglang:num_running_reqs", "Requests in steps.", running);
  gauge("sglang:num_queue_reqs", "Requests that wait.", waiting);
  gauge("sglang:num_grammar_queue_reqs", "Requests that wait for their grammar: it is made before they queue.", 0);
  gauge("sglang:num_used_tokens", "Tokens in cache blocks held by live sequences.",
        static_cast<double>(stats.cache_blocks_held * kCacheBlockTokens));
  gauge("sglang:max_total_num_tokens", "Tokens that the cache has room for.", blocks * kCacheBlockTokens);
  gauge("sglang:token_usage", "Share of the cache held by live sequences, 0 to 1.", held);
  gauge("sglang:utilization", "Share of the cache held by live sequences, 0 to 1.", held);
  gauge("sglang:gen_throughput", "Tokens generated a second, between the last two scrapes.",
        throughput(model, stats.generation_tokens));
  gauge("sglang:cache_hit_rate", "Share of prompt tokens found in the prefix cache.",
        share(stats.prefix_hits, stats.prefix_queries));
  gauge("sglang:spec_accept_rate", "Share of drafted tokens found right.",
        share(stats.accepted_draft_tokens, stats.draft_tokens));
  gauge("sglang:spec_accept_length", "Tokens of a verified draft, its own next token included.",
        stats.drafts > 0 ? 1 + share(stats.accepted_draft_tokens, stats.drafts) : 0);
  gauge("sglang:engine_startup_time", "Seconds that loading the model took.", loaded != nullptr ? loaded->load_s : 0);
  gauge("sglang:engine_load_weights_time", "Seconds of it that loading the weights took.",
        loaded != nullptr ? loaded->weights_load_s : 0);
  for (const char* name :
       {"sglang:lora_pool_slots_used", "sglang:lora_pool_slots_total", "sglang:lora_pool_utilization"})
    gauge(name, "Of adapters, which there are none of.", 0);

  gauge("llamacpp:requests_processing", "Requests in steps.", running);
  gauge("llamacpp:requests_deferred", "Requests in the queue.", waiting);
  gauge("llamacpp:n_busy_slots_per_decode", "Sequences of a step, on average.",
        share(stats.step_sequences, stats.steps));
}

// Names of vLLM's first engine, which old dashboards still ask for. Nothing is ever swapped out here.
void EngineMetrics::deprecated(const std::string& model, const EngineStats& now, const EngineStats& total,
                               Samples& out) {
  const auto add = [&](const char* name, const char* of, const char* kind, double value) {
    out.push_back({name, fmt::format("Deprecated: {}", of), kind, model_labels(model), value});
  };
  const auto blocks = static_cast<double>(now.cache_blocks_total);
  add("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc.", "gauge",
      blocks > 0 ? static_cast<double>(now.cache_blocks_held) / blocks : 0);
  add("vllm:cpu_cache_usage_perc", "nothing is swapped.", "gauge", 0);
  add("vllm:num_requests_swapped", "nothing is swapped.", "gauge", 0);
  add("vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_queries_total.", "counter",
      static_cast<double>(total.prefix_queries));
  add("vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total.", "counter",
      static_cast<double>(total.prefix_hits));
}

void EngineMetrics::counters(const std::string& model, const EngineStats& total, Samples& out) {
  const auto counter = [&](const char* name, const char* help, uint64_t value, const MetricLabels& more = {}) {
    MetricLabels labels = model_labels(model);
    labels.insert(labels.end(), more.begin(), more.end());
    out.push_back({name, help, "counter", std::move(labels), static_cast<double>(value)});
  };
  constexpr const char* kPromptHelp = "Prompt tokens processed, those found in a cache included.";
  constexpr const char* kSourceHelp = "Prompt tokens processed, by where they came from.";
  const uint64_t computed = total.prompt_tokens - total.prompt_cached_tokens;
  const uint64_t in_memory = total.prompt_cached_tokens - total.prompt_disk_tokens;
  counter("vllm:prompt_tokens_total", kPromptHelp, total.prompt_tokens);
  counter("vllm:prompt_tokens_by_source_total", kSourceHelp, computed, {{"source", "local_compute"}});
  counter("vllm:prompt_tokens_by_source_total", kSourceHelp, in_memory, {{"source", "local_cache_hit"}});
  counter("vllm:prompt_tokens_by_source_total", kSourceHelp, total.prompt_disk_tokens,
          {{"source", "external_kv_transfer"}});
  counter("vllm:generation_tokens_total", "Tokens generated.", total.generation_tokens);
  counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.", total.prefix_queries);
  counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.", total.prefix_hits);
  counter("vllm:external_prefix_cache_queries_total", "Tokens looked up in the cache on disk.", total.disk_queries);
  counter("vllm:external_prefix_cache_hits_total", "Tokens read from the cache on disk.", total.disk_hits);
  counter("vllm:num_preemptions_total", "Sequences put back to wait for cache blocks.", total.preemptions);
  counter("vllm:corrupted_requests_total", "Requests ended because weights were found damaged.",
          total.damaged_requests);
  counter("vllm:spec_decode_num_drafts_total", "Drafts verified.", total.drafts);
  counter("vllm:spec_decode_num_draft_tokens_total", "Drafted tokens verified.", total.draft_tokens);
  counter("vllm:spec_decode_num_accepted_tokens_total", "Drafted tokens found right.", total.accepted_draft_tokens);
  for (size_t i = 0; i < total.accepted_at.size(); ++i) {
    counter("vllm:spec_decode_num_accepted_tokens_per_pos_total", "Drafted tokens found right, by their place.",
            total.accepted_at[i], {{"position", std::to_string(i)}});
  }
  step_sizes(model, total, out);
  counter("redoubt_given_up_tokens_total", "Tokens of steps given up since another tenant came; computed again.",
          total.given_up_tokens);

  constexpr const char* kModeHelp = "Tokens as they are processed, by mode.";
  counter("sglang:prompt_tokens_total", kPromptHelp, total.prompt_tokens);
  counter("sglang:generation_tokens_total", "Tokens generated.", total.generation_tokens);
  counter("sglang:cached_tokens_total", "Prompt tokens found in the prefix cache.", total.prefix_hits);
  counter("sglang:realtime_tokens_total", kModeHelp, computed, {{"mode", "prefill_compute"}});
  counter("sglang:realtime_tokens_total", kModeHelp, total.prompt_cached_tokens, {{"mode", "prefill_cache"}});
  counter("sglang:realtime_tokens_total", kModeHelp, total.generation_tokens, {{"mode", "decode"}});
  counter("sglang:evicted_tokens_total", "Tokens that the prefix cache gave up.", total.evicted_tokens);
  counter("sglang:load_back_tokens_total", "Tokens read from the cache on disk.", total.disk_hits);
  counter("sglang:num_retracted_reqs", "Sequences put back to wait for cache blocks.", total.preemptions);

  counter("llamacpp:prompt_tokens_total", "Prompt tokens computed.", computed);
  counter("llamacpp:tokens_predicted_total", "Tokens generated.", total.generation_tokens);
  counter("llamacpp:n_decode_total", "Steps.", total.steps);
  counter("llamacpp:spec_decode_num_draft_tokens_total", "Drafted tokens verified.", total.draft_tokens);
  counter("llamacpp:spec_decode_num_accepted_tokens_total", "Drafted tokens found right.", total.accepted_draft_tokens);
}

}  // namespace redoubt
