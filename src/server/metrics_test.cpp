#include "server/metrics.h"

#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

TEST(Metrics, TextIsThePrometheusFormat) {
  MetricsRegistry registry;
  registry.counter("a_total", "Help with \\ and\nline.", {{"x", "q\"\\\n"}}).add(3);
  registry.gauge("b", "B.").set(0.25);
  Histogram& histogram = registry.histogram("h", "H.", {0.1, 1}, {{"m", "r1"}});
  for (const double value : {0.05, 0.1, 0.5, 7.0}) histogram.observe(value);
  EXPECT_EQ(registry.text(),
            "# HELP a_total Help with \\\\ and\\nline.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\"} 3\n"
            "# HELP b B.\n# TYPE b gauge\nb 0.25\n"
            "# HELP h H.\n# TYPE h histogram\n"
            "h_bucket{m=\"r1\",le=\"0.1\"} 2\nh_bucket{m=\"r1\",le=\"1\"} 3\nh_bucket{m=\"r1\",le=\"+Inf\"} 4\n"
            "h_sum{m=\"r1\"} 7.65\nh_count{m=\"r1\"} 4\n");
}

TEST(Metrics, AnAliasIsTheSameSeries) {
  MetricsRegistry registry;
  registry.add_alias("other:c_total", "c_total");
  EXPECT_EQ(registry.text(), "");
  registry.counter("c_total", "C.", {{"m", "r1"}}).add(2);
  EXPECT_EQ(registry.text(),
            "# HELP c_total C.\n# TYPE c_total counter\nc_total{m=\"r1\"} 2\n"
            "# HELP other:c_total C.\n# TYPE other:c_total counter\nother:c_total{m=\"r1\"} 2\n");
}

TEST(Metrics, NoCountIsLostBetweenThreads) {
  MetricsRegistry registry;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10000; ++i) {
        registry.counter("c_total", "C.").add();
        registry.histogram("h", "H.", {1, 2}).observe(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry.counter("c_total", "C.").value(), 80000u);
  const auto snapshot = registry.histogram("h", "H.", {1, 2}).snapshot();
  EXPECT_EQ(snapshot.cumulative.back(), 80000u);
  EXPECT_DOUBLE_EQ(snapshot.sum, 80000);
}

TEST(Metrics, AFinishedRequestIsSeenUnderTheNamesDashboardsKnow) {
  ServerMetrics metrics;
  FinishedRequest request;
  request.model = "r1";
  request.reason = FinishReason::length;
  request.usage.prompt_tokens = 12;
  request.usage.completion_tokens = 3;
  request.ttft_s = 0.03;
  request.e2e_s = 0.43;
  metrics.observe_first_token("r1", 0.03);
  metrics.observe_inter_token("r1", 0.2);
  metrics.observe_finished(request);
  const std::string text = metrics.text();
  for (const char* line : {"vllm:time_to_first_token_seconds_bucket{model_name=\"r1\",engine=\"0\",le=\"0.02\"} 0\n",
                           "vllm:time_to_first_token_seconds_bucket{model_name=\"r1\",engine=\"0\",le=\"0.04\"} 1\n",
                           "vllm:inter_token_latency_seconds_count{model_name=\"r1\",engine=\"0\"} 1\n",
                           "sglang:inter_token_latency_seconds_count{model_name=\"r1\",engine=\"0\"} 1\n",
                           "vllm:request_time_per_output_token_seconds_sum{model_name=\"r1\",engine=\"0\"} 0.2\n",
                           "vllm:request_success_total{model_name=\"r1\",engine=\"0\",finished_reason=\"length\"} 1\n",
                           "vllm:request_success_total{model_name=\"r1\",engine=\"0\",finished_reason=\"stop\"} 0\n",
                           "deepseek_inference_latency_seconds_count{model_name=\"r1\",engine=\"0\"} 1\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

// Every name that dashboards, autoscalers and gateways are known to ask for.
TEST_F(Routes, MetricsHaveEveryNameThatIsAskedFor) {
  ServerMetrics metrics;
  metrics.set_host(&host);
  context.metrics = &metrics;
  post("/v1/chat/completions", ask({{"max_tokens", 5}}));
  metrics.observe_first_token("tiny", 1);
  metrics.observe_inter_token("tiny", 1);
  const std::string text = metrics.text();
  std::istringstream names(
      "vllm:num_requests_running vllm:num_requests_waiting vllm:num_requests_waiting_by_reason "
      "vllm:kv_cache_usage_perc "
      "vllm:lora_requests_info vllm:cache_config_info vllm:prefix_cache_queries_total vllm:prefix_cache_hits_total "
      "vllm:num_preemptions_total vllm:prompt_tokens_total vllm:generation_tokens_total "
      "vllm:prompt_tokens_by_source_total vllm:request_success_total vllm:spec_decode_num_drafts_total "
      "vllm:spec_decode_num_draft_tokens_total vllm:spec_decode_num_accepted_tokens_total "
      "vllm:spec_decode_num_accepted_tokens_per_pos_total vllm:external_prefix_cache_queries_total "
      "vllm:external_prefix_cache_hits_total vllm:corrupted_requests_total vllm:admission_rejections_total "
      "vllm:time_to_first_token_seconds_bucket vllm:inter_token_latency_seconds_bucket "
      "vllm:request_time_per_output_token_seconds_bucket vllm:e2e_request_latency_seconds_bucket "
      "vllm:request_queue_time_seconds_bucket vllm:request_inference_time_seconds_bucket "
      "vllm:request_prefill_time_seconds_bucket vllm:request_decode_time_seconds_bucket "
      "vllm:request_prompt_tokens_bucket vllm:request_generation_tokens_bucket vllm:request_params_n_bucket "
      "vllm:request_params_max_tokens_bucket vllm:request_prefill_kv_computed_tokens_bucket "
      "vllm:iteration_tokens_total_bucket vllm:iteration_tokens_total_sum vllm:iteration_tokens_total_count "
      "vllm:request_num_preemptions_bucket deepseek_inference_latency_seconds_bucket "
      "sglang:num_running_reqs sglang:num_queue_reqs sglang:num_used_tokens sglang:token_usage "
      "sglang:max_total_num_tokens sglang:gen_throughput sglang:cache_hit_rate sglang:num_grammar_queue_reqs "
      "sglang:spec_accept_length sglang:spec_accept_rate sglang:num_retracted_reqs sglang:utilization "
      "sglang:lora_pool_slots_used sglang:lora_pool_slots_total sglang:lora_pool_utilization "
      "sglang:prompt_tokens_total sglang:generation_tokens_total sglang:cached_tokens_total "
      "sglang:num_requests_total sglang:num_so_requests_total sglang:num_aborted_requests_total "
      "sglang:evicted_tokens_total sglang:load_back_tokens_total sglang:realtime_tokens_total "
      "sglang:time_to_first_token_seconds_bucket sglang:inter_token_latency_seconds_bucket "
      "sglang:e2e_request_latency_seconds_bucket sglang:queue_time_seconds_bucket "
      "sglang:per_stage_req_latency_seconds_bucket sglang:engine_startup_time sglang:engine_load_weights_time "
      "llamacpp:prompt_tokens_total llamacpp:prompt_seconds_total llamacpp:tokens_predicted_total "
      "llamacpp:tokens_predicted_seconds_total llamacpp:n_decode_total llamacpp:n_tokens_max "
      "llamacpp:n_busy_slots_per_decode llamacpp:prompt_tokens_seconds llamacpp:predicted_tokens_seconds "
      "llamacpp:requests_processing llamacpp:requests_deferred llamacpp:spec_decode_num_draft_tokens_total "
      "llamacpp:spec_decode_num_accepted_tokens_total");
  for (std::string name; names >> name;) EXPECT_NE(text.find("\n" + name + "{"), std::string::npos) << name;
}

TEST_F(Routes, NamesThatWereGivenUpAreThereWhereAskedFor) {
  for (const bool wanted : {false, true}) {
    ServerMetrics metrics;
    if (wanted) metrics.add_deprecated_names();
    metrics.set_host(&host);
    metrics.observe_inter_token("tiny", 1);
    const std::string text = metrics.text();
    for (const std::string name :
         {"gpu_cache_usage_perc", "cpu_cache_usage_perc", "num_requests_swapped", "gpu_prefix_cache_queries_total",
          "gpu_prefix_cache_hits_total", "time_per_output_token_seconds_bucket"})
      EXPECT_EQ(text.find("\nvllm:" + name + "{") != std::string::npos, wanted) << name;
  }
}

TEST_F(Routes, MetricsSayWhatTheEngineCounted) {
  engine->counts.cache_blocks_total = 40;
  engine->counts.prompt_tokens = 100;
  engine->counts.prompt_cached_tokens = 64;
  engine->counts.prompt_disk_tokens = 16;
  engine->counts.accepted_at[1] = 7;
  engine->counts.steps = 3;
  engine->counts.step_tokens = 130;
  engine->counts.steps_of_size[1] = 2;
  engine->counts.steps_of_size[5] = 1;
  ServerMetrics metrics;
  metrics.set_host(&host);
  const std::string text = metrics.text();
  const std::string labels = "{model_name=\"tiny\",engine=\"0\"";
  for (const std::string& line :
       {"vllm:cache_config_info" + labels + ",block_size=\"" + std::to_string(kCacheBlockTokens) +
            "\",num_gpu_blocks=\"40\"} 1\n",
        "vllm:prompt_tokens_total" + labels + "} 100\n",
        "vllm:prompt_tokens_by_source_total" + labels + ",source=\"local_compute\"} 36\n",
        "vllm:prompt_tokens_by_source_total" + labels + ",source=\"local_cache_hit\"} 48\n",
        "vllm:prompt_tokens_by_source_total" + labels + ",source=\"external_kv_transfer\"} 16\n",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total" + labels + ",position=\"1\"} 7\n",
        std::string("# TYPE vllm:iteration_tokens_total histogram\n"),
        "vllm:iteration_tokens_total_bucket" + labels + ",le=\"1\"} 0\n",
        "vllm:iteration_tokens_total_bucket" + labels + ",le=\"8\"} 2\n",
        "vllm:iteration_tokens_total_bucket" + labels + ",le=\"+Inf\"} 3\n",
        "vllm:iteration_tokens_total_sum" + labels + "} 130\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

TEST_F(Routes, CountersGoOnWhenAModelIsUnloaded) {
  ServerMetrics metrics;
  metrics.set_host(&host);
  const std::string name = "vllm:prompt_tokens_total{model_name=\"tiny\",engine=\"0\"} ";
  host.is_loaded = false;  // unloaded before anybody asked
  host.gone.prompt_tokens = 30;
  EXPECT_NE(metrics.text().find(name + "30\n"), std::string::npos) << metrics.text();
  host.is_loaded = true;
  engine->counts.prompt_tokens = 5;
  EXPECT_NE(metrics.text().find(name + "35\n"), std::string::npos) << metrics.text();
}

TEST_F(Routes, RequestsWithAGrammarAndLeftOnesAreCounted) {
  ServerMetrics metrics;
  context.metrics = &metrics;
  post("/v1/chat/completions", ask());
  post("/v1/chat/completions", ask({{"guided_choice", {"a", "b"}}}));
  engine->hold = true;
  const auto left = post("/v1/chat/completions", ask({{"stream", true}}));
  left->close(true);
  engine->speak(engine->held[0].first, *engine->held[0].second);
  const std::string text = metrics.text();
  for (const char* line : {"sglang:num_requests_total{model_name=\"tiny\",engine=\"0\"} 3\n",
                           "sglang:num_so_requests_total{model_name=\"tiny\",engine=\"0\"} 1\n",
                           "sglang:num_aborted_requests_total{model_name=\"tiny\",engine=\"0\"} 1\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

}  // namespace
}  // namespace redoubt
