#include "server/metrics.h"

#include <atomic>

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
        waiting_stage(stage(registry, model, "prefill_waiting")),
        prefill_stage(stage(registry, model, "prefill_forward")),
        decode_stage(stage(registry, model, "decode_forward")),
        stop(finished(registry, model, "stop")),
        length(finished(registry, model, "length")),
        abort(finished(registry, model, "abort")),
        error(finished(registry, model, "error")),
        requests(registry.counter("sglang:num_requests_total", "Requests that ended.", model_labels(model))),
        structured(registry.counter("sglang:num_so_requests_total", "Requests that ended and had a grammar.",
                                    model_labels(model))),
        aborted(registry.counter("sglang:num_aborted_requests_total", "Requests that ended before their answer did.",
                                 model_labels(model))),
        rejections(registry.counter("vllm:admission_rejections_total", "Requests refused because the queue was full.",
                                    model_labels(model))) {}

  static Histogram& histogram(MetricsRegistry& registry, const std::string& model, std::string_view name,
                              std::string_view help, const std::vector<double>& buckets) {
    return registry.histogram(name, help, buckets, model_labels(model));
  }
  static Histogram& stage(MetricsRegistry& registry, const std::string& model, std::string name) {
    MetricLabels labels = model_labels(model);
    labels.emplace_back("stage", std::move(name));
    return registry.histogram("sglang:per_stage_req_latency_seconds", "Time of a request in each stage.",
                              kLatencyBuckets, labels);
  }
  static Counter& finished(MetricsRegistry& registry, const std::string& model, std::string reason) {
    MetricLabels labels = model_labels(model);
    labels.emplace_back("finished_reason", std::move(reason));
    return registry.counter("vllm:request_success_total", "Requests that ended, by reason.", labels);
  }

  Histogram &ttft, &itl, &tpot, &e2e, &inference_latency, &queue, &inference, &prefill, &decode, &prompt, &generation,
      &computed, &choices, &max_tokens, &preemptions, &waiting_stage, &prefill_stage, &decode_stage;
  Counter &stop, &length, &abort, &error, &requests, &structured, &aborted, &rejections;
  std::atomic<int64_t> longest = 0;  // tokens of one sequence
};

ServerMetrics::ServerMetrics() {
  registry_.add_collector([this](std::vector<MetricsRegistry::Sample>& samples) {
    engines_.collect(samples);
    collect_times(samples);
  });
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

// llama.cpp's sums and averages, which our histograms hold already.
void ServerMetrics::collect_times(std::vector<MetricsRegistry::Sample>& samples) {
  const std::lock_guard lock(mutex_);
  for (const auto& [model, series] : series_) {
    const auto sum = [](const Histogram& histogram) { return histogram.snapshot().sum; };
    const auto rate = [](double tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0; };
    const auto add = [&, &name = model](const char* metric, const char* help, const char* kind, double value) {
      samples.push_back({metric, help, kind, model_labels(name), value});
    };
    const double prefill_s = sum(series->prefill), decode_s = sum(series->decode);
    add("llamacpp:prompt_seconds_total", "Prefill.", "counter", prefill_s);
    add("llamacpp:tokens_predicted_seconds_total", "Decode.", "counter", decode_s);
    add("llamacpp:prompt_tokens_seconds", "Prompt tokens computed a second of prefill.", "gauge",
        rate(sum(series->computed), prefill_s));
    add("llamacpp:predicted_tokens_seconds", "Tokens generated a second of decode.", "gauge",
        rate(sum(series->generation), decode_s));
    add("llamacpp:n_tokens_max", "Tokens of the longest prompt and answer so far.", "counter",
        static_cast<double>(series->longest.load()));
  }
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
  s.requests.add();
  if (request.structured) s.structured.add();
  if (request.reason == FinishReason::abort) s.aborted.add();
  const int64_t length = usage.prompt_tokens + usage.completion_tokens;
  for (int64_t seen = s.longest; seen < length && !s.longest.compare_exchange_weak(seen, length);) {
  }
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
  s.waiting_stage.observe(seconds(usage.queue_ns));
  s.prefill_stage.observe(seconds(usage.prefill_ns));
  s.decode_stage.observe(seconds(usage.decode_ns));
  s.choices.observe(request.n);
  s.preemptions.observe(static_cast<double>(usage.preemptions));
  if (request.max_tokens > 0) s.max_tokens.observe(static_cast<double>(request.max_tokens));
  if (request.ttft_s >= 0 && usage.completion_tokens > 1) {
    s.tpot.observe((request.e2e_s - request.ttft_s) / static_cast<double>(usage.completion_tokens - 1));
  }
}

void ServerMetrics::observe_refused(const std::string& model) { series(model).rejections.add(); }

void ServerMetrics::add_deprecated_names() {
  engines_.add_deprecated();
  registry_.add_alias("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds");
}

void ServerMetrics::set_host(const ModelHost* host) { engines_.set_host(host); }

MetricsRegistry& ServerMetrics::registry() { return registry_; }

void add_http_metrics(const HttpServer& server, MetricsRegistry& registry) {
  registry.add_collector([&server](std::vector<MetricsRegistry::Sample>& samples) {
    samples.push_back({"redoubt_http_connections",
                       "Open connections of both listeners.",
                       "gauge",
                       {},
                       static_cast<double>(server.open_connections())});
    samples.push_back({"redoubt_http_bodies_bytes",
                       "Of large request bodies, against limits: max_bodies_bytes.",
                       "gauge",
                       {},
                       static_cast<double>(server.bodies_bytes())});
  });
}

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
