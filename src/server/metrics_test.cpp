#include "server/metrics.h"

#include <gtest/gtest.h>

#include <thread>

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

}  // namespace
}  // namespace redoubt
