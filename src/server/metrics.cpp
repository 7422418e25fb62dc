#include "server/metrics.h"

#include <set>

namespace redoubt {
namespace {

const std::vector<double> kTtftBuckets = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                          1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const std::vector<double> kTokenBuckets = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                           .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const std::vector<double> kLatencyBuckets = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                             30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
// Counts of tokens: 1, 2, 5 in each decade, up to R1's context.
const std::vector<double> kCountBuckets = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                           1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
const std::vector<double> kChoiceBuckets = {1, 2, 5, 10, 20};

double seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

MetricLabels model_labels(const std::string& model) { return {{"model_name", model}, {"engine", "0"}}; }

}  // namespace

// The series of one model, looked up once.
struct ServerMetrics::Series {
  Series(MetricsRegistry& registry, const std::string& model)
      : ttft(histogram(registry, model, "vllm:time_to_first_token_seconds", "Arrival to first token.", kTtftBuckets)),
        itl(histogram(registry, model, "vllm:inter_token_latency_seconds", "Between two tokens.", kTokenBuckets)),
        tpot(histogram(registry, model, "vllm:request_time_per_output_token_seconds",
                       "Mean time of a token after the first.", kTokenBuckets)),
        e2e(histogram(registry, model, "vllm:e2e_request_latency_seconds", "Arrival to last token.", kLatencyBuckets)),
        inference_latency(histogram(registry, model, "deepseek_inference_latency_seconds",
                                    "Arrival to last token, under the name of our own alerts.", kLatencyBuckets)),
        queue(histogram(registry, model, "vllm:request_queue_time_seconds", "Waiting to be run.", kLatencyBuckets)),
        inference(
            histogram(registry, model, "vllm:request_inference_time_seconds", "Prefill and decode.", kLatencyBuckets)),
        prefill(histogram(registry, model, "vllm:request_prefill_time_seconds", "Prefill.", kLatencyBuckets)),
        decode(histogram(registry, model, "vllm:request_decode_time_seconds", "Decode.", kLatencyBuckets)),
        prompt(histogram(registry, model, "vllm:request_prompt_tokens", "Prompt tokens of a request.", kCountBuckets)),
        generation(histogram(registry, model, "vllm:request_generation_tokens", "Generated tokens of a request.",
                             kCountBuckets)),
        computed(histogram(registry, model, "vllm:request_prefill_kv_computed_tokens",
                           "Prompt tokens that were computed, not found in the prefix cache.", kCountBuckets)),
        choices(histogram(registry, model, "vllm:request_params_n", "Choices asked for.", kChoiceBuckets)),
        max_tokens(
            histogram(registry, model, "vllm:request_params_max_tokens", "Token limit asked for.", kCountBuckets)),
        preemptions(
            histogram(registry, model, "vllm:request_num_preemptions", "Preemptions of a request.", kChoiceBuckets)),
        stop(finished(registry, model, "stop")),
        length(finished(registry, model, "length")),
        abort(finished(registry, model, "abort")),
        error(finished(registry, model, "error")),
        rejections(registry.counter("vllm:admission_rejections_total", "Requests refused because the queue was full.",
                                    model_labels(model))) {}

  static Histogram& histogram(MetricsRegistry& registry, const std::string& model, std::string_view name,
                              std::string_view help, const std::vector<double>& buckets) {
    return registry.histogram(name, help, buckets, model_labels(model));
  }
  static Counter& finished(MetricsRegistry& registry, const std::string& model, std::string reason) {
    MetricLabels labels = model_labels(model);
    labels.emplace_back("finished_reason", std::move(reason));
    return registry.counter("vllm:request_success_total", "Requests that ended, by reason.", labels);
  }

  Histogram &ttft, &itl, &tpot, &e2e, &inference_latency, &queue, &inference, &prefill, &decode, &prompt, &generation,
      &computed, &choices, &max_tokens, &preemptions;
  Counter &stop, &length, &abort, &error, &rejections;
};

// What the engines say of themselves, read at the scrape. An engine that is gone leaves its last counts behind.
class ServerMetrics::EngineCounters {
 public:
  void set_host(const ModelHost* host) {
    const std::lock_guard lock(mutex_);
    host_ = host;
  }

  void collect(std::vector<MetricsRegistry::Sample>& samples) {
    const std::lock_guard lock(mutex_);
    if (host_ == nullptr) return;
    std::set<std::string> live;
    for (const auto& model : host_->loaded()) {
      if (model == nullptr || model->engine == nullptr) continue;
      live.insert(model->name);
      Totals& totals = totals_[model->name];
      // Another engine under the same name: the model was unloaded and came back.
      if (totals.engine != model->engine.get() || model->created_unix != totals.created_unix) retire(totals);
      totals.engine = model->engine.get();
      totals.created_unix = model->created_unix;
      totals.last = model->engine->stats();
      gauges(model->name, totals.last, samples);
    }
    for (auto& [name, totals] : totals_) {
      if (!live.contains(name)) {
        retire(totals);
        gauges(name, EngineStats{}, samples);
      }
      counters(name, totals, samples);
    }
  }

 private:
  struct Totals {
    const void* engine = nullptr;  // identity only
    int64_t created_unix = 0;
    EngineStats base, last;
  };

  static EngineStats sum(const EngineStats& a, const EngineStats& b) {
    EngineStats total = a;
    total.prompt_tokens += b.prompt_tokens;
    total.generation_tokens += b.generation_tokens;
    total.prefix_queries += b.prefix_queries;
    total.prefix_hits += b.prefix_hits;
    total.preemptions += b.preemptions;
    total.drafts += b.drafts;
    total.draft_tokens += b.draft_tokens;
    total.accepted_draft_tokens += b.accepted_draft_tokens;
    total.disk_queries += b.disk_queries;
    total.disk_hits += b.disk_hits;
    total.steps += b.steps;
    return total;
  }

  static void retire(Totals& totals) {
    totals.base = sum(totals.base, totals.last);
    totals.last = {};
    totals.engine = nullptr;
  }

  static void gauges(const std::string& model, const EngineStats& stats, std::vector<MetricsRegistry::Sample>& out) {
    const MetricLabels labels = model_labels(model);
    const auto gauge = [&](const char* name, const char* help, double value, MetricLabels more = {}) {
      MetricLabels all = labels;
      all.insert(all.end(), more.begin(), more.end());
      out.push_back({name, help, "gauge", std::move(all), value});
    };
    const double blocks = static_cast<double>(stats.cache_blocks_total);
    gauge("vllm:num_requests_running", "Requests in steps.", static_cast<double>(stats.running));
    gauge("vllm:num_requests_waiting", "Requests in the queue.", static_cast<double>(stats.waiting));
    gauge("vllm:num_requests_waiting_by_reason", "Requests in the queue, by what they wait for.",
          static_cast<double>(stats.waiting), {{"reason", "capacity"}});
    gauge("vllm:num_requests_waiting_by_reason", "Requests in the queue, by what they wait for.", 0,
          {{"reason", "deferred"}});
    gauge("vllm:kv_cache_usage_perc", "Share of cache blocks held by live sequences, 0 to 1.",
          blocks > 0 ? static_cast<double>(stats.cache_blocks_held) / blocks : 0);
    const double tokens = blocks * kCacheBlockTokens;
    const auto share = [](uint64_t part, uint64_t whole) {
      return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
    };
    gauge("sglang:num_running_reqs", "Requests in steps.", static_cast<double>(stats.running));
    gauge("sglang:num_queue_reqs", "Requests in the queue.", static_cast<double>(stats.waiting));
    gauge("sglang:num_used_tokens", "Tokens in cache blocks held by live sequences.",
          static_cast<double>(stats.cache_blocks_held * kCacheBlockTokens));
    gauge("sglang:max_total_num_tokens", "Tokens that the cache has room for.", tokens);
    gauge("sglang:token_usage", "Share of the cache held by live sequences, 0 to 1.",
          blocks > 0 ? static_cast<double>(stats.cache_blocks_held) / blocks : 0);
    gauge("sglang:cache_hit_rate", "Share of prompt tokens found in the prefix cache.",
          share(stats.prefix_hits, stats.prefix_queries));
    gauge("sglang:spec_accept_rate", "Share of drafted tokens found right.",
          share(stats.accepted_draft_tokens, stats.draft_tokens));
    gauge("sglang:spec_accept_length", "Tokens of a verified draft, its own next token included.",
          stats.drafts > 0 ? 1 + share(stats.accepted_draft_tokens, stats.drafts) : 0);
    gauge("llamacpp:requests_processing", "Requests in steps.", static_cast<double>(stats.running));
    gauge("llamacpp:requests_deferred", "Requests in the queue.", static_cast<double>(stats.waiting));
    gauge("vllm:cache_config_info", "The cache; the value is always 1.", 1,
          {{"num_gpu_blocks", std::to_string(stats.cache_blocks_total)}});
  }

  static void counters(const std::string& model, const Totals& totals, std::vector<MetricsRegistry::Sample>& out) {
    const EngineStats total = sum(totals.base, totals.last);
    const auto counter = [&](const char* name, const char* help, uint64_t value) {
      out.push_back({name, help, "counter", model_labels(model), static_cast<double>(value)});
    };
    counter("vllm:prompt_tokens_total", "Prompt tokens computed.", total.prompt_tokens);
    counter("vllm:generation_tokens_total", "Tokens generated.", total.generation_tokens);
    counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.", total.prefix_queries);
    counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.", total.prefix_hits);
    counter("vllm:external_prefix_cache_queries_total", "Tokens looked up in the cache on disk.", total.disk_queries);
    counter("vllm:external_prefix_cache_hits_total", "Tokens read from the cache on disk.", total.disk_hits);
    counter("vllm:num_preemptions_total", "Sequences put back to wait for cache blocks.", total.preemptions);
    counter("vllm:spec_decode_num_drafts_total", "Drafts verified.", total.drafts);
    counter("vllm:spec_decode_num_draft_tokens_total", "Drafted tokens verified.", total.draft_tokens);
    counter("vllm:spec_decode_num_accepted_tokens_total", "Drafted tokens found right.", total.accepted_draft_tokens);
    counter("sglang:prompt_tokens_total", "Prompt tokens computed.", total.prompt_tokens);
    counter("sglang:generation_tokens_total", "Tokens generated.", total.generation_tokens);
    counter("sglang:cached_tokens_total", "Prompt tokens found in the prefix cache.", total.prefix_hits);
    counter("sglang:num_retracted_reqs", "Sequences put back to wait for cache blocks.", total.preemptions);
    counter("llamacpp:prompt_tokens_total", "Prompt tokens computed.", total.prompt_tokens);
    counter("llamacpp:tokens_predicted_total", "Tokens generated.", total.generation_tokens);
    counter("llamacpp:n_decode_total", "Steps.", total.steps);
    counter("llamacpp:spec_decode_num_draft_tokens_total", "Drafted tokens verified.", total.draft_tokens);
    counter("llamacpp:spec_decode_num_accepted_tokens_total", "Drafted tokens found right.",
            total.accepted_draft_tokens);
  }

  std::mutex mutex_;
  const ModelHost* host_ = nullptr;
  std::map<std::string, Totals> totals_;
};

ServerMetrics::ServerMetrics() : engines_(std::make_unique<EngineCounters>()) {
  registry_.add_collector([this](std::vector<MetricsRegistry::Sample>& samples) { engines_->collect(samples); });
  for (const char* name : {"time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"})
    registry_.add_alias(std::string("sglang:") + name, std::string("vllm:") + name);
  registry_.add_alias("sglang:queue_time_seconds", "vllm:request_queue_time_seconds");
}
ServerMetrics::~ServerMetrics() = default;

ServerMetrics::Series& ServerMetrics::series(const std::string& model) {
  const std::lock_guard lock(mutex_);
  auto& slot = series_[model];
  if (slot == nullptr) slot = std::make_unique<Series>(registry_, model);
  return *slot;
}

void ServerMetrics::observe_first_token(const std::string& model, double seconds_since_arrival) {
  series(model).ttft.observe(seconds_since_arrival);
}

void ServerMetrics::observe_inter_token(const std::string& model, double seconds) {
  series(model).itl.observe(seconds);
}

void ServerMetrics::observe_finished(const FinishedRequest& request) {
  Series& s = series(request.model);
  const GenerationUsage& usage = request.usage;
  switch (request.reason) {
    case FinishReason::length:
      s.length.add();
      break;
    case FinishReason::abort:
      s.abort.add();
      break;
    case FinishReason::error:
      s.error.add();
      break;
    case FinishReason::none:
    case FinishReason::stop:
      s.stop.add();
      break;
  }
  s.e2e.observe(request.e2e_s);
  s.inference_latency.observe(request.e2e_s);
  s.queue.observe(seconds(usage.queue_ns));
  s.prefill.observe(seconds(usage.prefill_ns));
  s.decode.observe(seconds(usage.decode_ns));
  s.inference.observe(seconds(usage.prefill_ns + usage.decode_ns));
  s.prompt.observe(static_cast<double>(usage.prompt_tokens));
  s.generation.observe(static_cast<double>(usage.completion_tokens));
  s.computed.observe(static_cast<double>(usage.prompt_tokens - usage.cached_tokens));
  s.choices.observe(request.n);
  s.preemptions.observe(static_cast<double>(usage.preemptions));
  if (request.max_tokens > 0) s.max_tokens.observe(static_cast<double>(request.max_tokens));
  if (request.ttft_s >= 0 && usage.completion_tokens > 1) {
    s.tpot.observe((request.e2e_s - request.ttft_s) / static_cast<double>(usage.completion_tokens - 1));
  }
}

void ServerMetrics::observe_refused(const std::string& model) { series(model).rejections.add(); }

void ServerMetrics::set_host(const ModelHost* host) { engines_->set_host(host); }

MetricsRegistry& ServerMetrics::registry() { return registry_; }

Route metrics_route(std::shared_ptr<ServerMetrics> metrics) {
  Route route;
  route.method = "GET";
  route.path = "/metrics";
  route.rule = read_metrics_rule();
  route.max_body_bytes = 0;
  route.summary = "Counters in the Prometheus text format";
  route.quick = true;
  route.handler = [metrics = std::move(metrics)](std::shared_ptr<const HttpRequest>,
                                                 std::shared_ptr<ResponseWriter> writer) {
    writer->send(200, kMetricsContentType, metrics->text());
  };
  return route;
}

}  // namespace redoubt
