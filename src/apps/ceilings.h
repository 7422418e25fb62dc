// How fast this computer can be at most: the ceilings that every speed is compared with.
//
// Read bandwidth: a plain loop over memory larger than the caches, in huge pages where the system gives them.
// Arithmetic: independent multiply-adds in registers alone, by the widest instruction the processor has: int8
// (AVX-512 VNNI, AVX-VNNI, AVX2; Arm i8mm, dot product) and bf16 (AVX-512 BF16; Arm BF16; else float32 multiply-adds,
// which is then how bf16 weights are computed). Tile units (AMX) are not counted: no kernel uses them unasked.
//
// Other work on the machine, and the machine's memory itself, change from second to second: measure right beside the
// figure that is compared. A measurement is the median of a few probes of some 10 ms each.
// Thread safety: one thread at a time, while nothing else runs on the pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/thread_pool.h"

namespace redoubt {

struct Ceilings {
  double read_bandwidth_bytes_per_s = 0;
  double int8_ops_per_s = 0;    // a multiply-add is two operations; 0: no vector unit that we know
  double bf16_flops_per_s = 0;  // the same
};

// The mean of two measurements, for what ran between them.
Ceilings between(const Ceilings& before, const Ceilings& after);

class CeilingProbe {
 public:
  explicit CeilingProbe(ThreadPool& pool);  // on all threads of the pool
  ~CeilingProbe();
  CeilingProbe(const CeilingProbe&) = delete;
  CeilingProbe& operator=(const CeilingProbe&) = delete;

  Ceilings measure();
  // Resident from construction to destruction: what to subtract from a peak of memory that was reached meanwhile.
  int64_t buffer_bytes() const { return bytes_; }

 private:
  double read_once();

  ThreadPool& pool_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

std::string int8_instruction();  // of int8_ops_per_s: "amx", "avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod" or ""
std::string bf16_instruction();  // of bf16_flops_per_s: "amx", "avx512bf16", "avx512f", "fma", "bf16", "neon" or ""

}  // namespace redoubt
