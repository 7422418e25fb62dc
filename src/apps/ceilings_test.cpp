#include "apps/ceilings.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "apps/ceiling_loops.h"

namespace redoubt {
namespace {

// A loop that skipped bytes would promise a bandwidth that nobody can reach.
TEST(Ceilings, TheReadLoopReadsEveryByte) {
  const ReadLoop loop = read_loop();
  struct alignas(64) Buffer {
    std::array<std::byte, 2048> bytes{};
  };
  Buffer buffer;
  EXPECT_EQ(loop(buffer.bytes.data(), 2048), 0u);
  for (size_t i = 0; i < buffer.bytes.size(); ++i) {
    buffer.bytes[i] = std::byte{1};
    EXPECT_NE(loop(buffer.bytes.data(), 2048), 0u) << i;
    buffer.bytes[i] = std::byte{0};
  }
}

TEST(Ceilings, AreMeasuredWhereAVectorUnitIsNamed) {
  ThreadPool pool(2);
  CeilingProbe probe(pool);
  const Ceilings ceilings = probe.measure();
  EXPECT_GT(ceilings.read_bandwidth_bytes_per_s, 0);
  EXPECT_EQ(ceilings.int8_ops_per_s > 0, !int8_instruction().empty());
  EXPECT_EQ(ceilings.bf16_flops_per_s > 0, !bf16_instruction().empty());
  EXPECT_GT(probe.buffer_bytes(), 0);
}

TEST(Ceilings, WhatRanBetweenTwoMeasurementsIsComparedWithTheirMean) {
  const Ceilings mean = between({1, 10, 100}, {3, 30, 300});
  EXPECT_EQ(mean.read_bandwidth_bytes_per_s, 2);
  EXPECT_EQ(mean.int8_ops_per_s, 20);
  EXPECT_EQ(mean.bf16_flops_per_s, 200);
}

}  // namespace
}  // namespace redoubt
