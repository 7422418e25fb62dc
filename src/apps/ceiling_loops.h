// The loops that the ceilings are measured with, for the processor we run on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace redoubt {

// Reads every byte once; what is returned depends on all of them. data: 64-byte aligned, bytes: a multiple of 512.
using ReadLoop = uint64_t (*)(const std::byte* data, int64_t bytes);
ReadLoop read_loop();

struct ArithmeticLoop {
  uint64_t (*run)(int64_t rounds) = nullptr;  // null: no vector unit that we know
  double ops_per_round = 0;                   // a multiply-add is two
  const char* instruction = "";
};
ArithmeticLoop int8_loop();
ArithmeticLoop bf16_loop();

}  // namespace redoubt
