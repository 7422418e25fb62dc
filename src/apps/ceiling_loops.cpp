// Each arithmetic loop keeps kSums independent sums in registers, enough to hide the latency of the instruction; the
// empty asm makes its inputs unknown, so that the compiler neither folds nor hoists a product; nor takes the sums
// for equal and computes one of them. The loop over the sums must be unrolled, or they live in memory and a fraction of
// the peak is measured.
#include "apps/ceiling_loops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include "kernels/amx/tiles.h"
#endif
#include "kernels/cpu.h"

#if defined(__clang__)
#define REDOUBT_UNROLL _Pragma("unroll")
#else
#define REDOUBT_UNROLL _Pragma("GCC unroll 16")
#endif

namespace redoubt {
namespace {

uint64_t read_plain(const std::byte* data, int64_t bytes) {
  const auto* p = reinterpret_cast<const uint64_t*>(data);
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (int64_t i = 0; i + 4 <= bytes / 8; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
  return a ^ b ^ c ^ d;
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) uint64_t read_avx512(const std::byte* data, int64_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  const auto* p = reinterpret_cast<const __m512i*>(data);
  for (int64_t i = 0; i + 4 <= bytes / 64; i += 4) {
    a = _mm512_or_si512(a, _mm512_load_si512(p + i));
    b = _mm512_or_si512(b, _mm512_load_si512(p + i + 1));
    c = _mm512_or_si512(c, _mm512_load_si512(p + i + 2));
    d = _mm512_or_si512(d, _mm512_load_si512(p + i + 3));
  }
  alignas(64) uint64_t lanes[8];
  _mm512_store_si512(lanes, _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)));
  return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3] ^ lanes[4] ^ lanes[5] ^ lanes[6] ^ lanes[7];
}

__attribute__((target("avx2"))) uint64_t read_avx2(const std::byte* data, int64_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  const auto* p = reinterpret_cast<const __m256i*>(data);
  for (int64_t i = 0; i + 4 <= bytes / 32; i += 4) {
    a = _mm256_or_si256(a, _mm256_load_si256(p + i));
    b = _mm256_or_si256(b, _mm256_load_si256(p + i + 1));
    c = _mm256_or_si256(c, _mm256_load_si256(p + i + 2));
    d = _mm256_or_si256(d, _mm256_load_si256(p + i + 3));
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)));
  return lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3];
}

// With AVX-512 there are 32 registers, with AVX2 16.
constexpr int kSums = 16, kSums256 = 10, kSumsMaddubs = 8;

__attribute__((target("avx512f,avx512vnni"))) uint64_t int8_avx512_vnni(int64_t rounds) {
  __m512i sums[kSums], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm512_setzero_si512();
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    REDOUBT_UNROLL
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, x, y);
    asm volatile("" : "+v"(x), "+v"(y));
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, sums[0]);  // GCC 12 warns inside its own _mm512_reduce_add_epi32
  return static_cast<uint64_t>(lanes[0]);
}

// Four sums of full tiles, two operands of either kind.
constexpr double kTileOps = 2.0 * 16 * 16 * 64;  // of int8, half as many of bf16
template <void (*dots)()>
uint64_t amx(int64_t rounds) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, kTileRows, kTileRowBytes);
  alignas(64) unsigned char bytes[kTileRows * kTileRowBytes];
  memset(bytes, 3, sizeof(bytes));
  tiles_configure(config);
  tile_load<0>(bytes, kTileRowBytes);
  tile_load<1>(bytes, kTileRowBytes);
  tile_load<2>(bytes, kTileRowBytes);
  tile_load<3>(bytes, kTileRowBytes);
  for (int64_t i = 0; i < rounds; ++i) dots();
  tile_store<4>(bytes, kTileRowBytes);
  tiles_release();
  return bytes[0];
}
void int8_dots() {
  tile_dot_int8<4, 0, 2>();
  tile_dot_int8<5, 1, 2>();
  tile_dot_int8<6, 0, 3>();
  tile_dot_int8<7, 1, 3>();
}
void bf16_dots() {
  tile_dot_bf16<4, 0, 2>();
  tile_dot_bf16<5, 1, 2>();
  tile_dot_bf16<6, 0, 3>();
  tile_dot_bf16<7, 1, 3>();
}

__attribute__((target("avx2,avxvnni"))) uint64_t int8_avx_vnni(int64_t rounds) {
  __m256i sums[kSums256], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5);
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm256_setzero_si256();
    asm volatile("" : "+x"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    REDOUBT_UNROLL
    for (auto& sum : sums) sum = _mm256_dpbusd_avx_epi32(sum, x, y);
    asm volatile("" : "+x"(x), "+x"(y));
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSums256; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return static_cast<uint64_t>(_mm256_extract_epi32(sums[0], 0));
}

__attribute__((target("avx2"))) uint64_t int8_avx2(int64_t rounds) {
  __m256i sums[kSumsMaddubs], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm256_setzero_si256();
    asm volatile("" : "+x"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    REDOUBT_UNROLL
    for (auto& sum : sums) {
      asm volatile("" : "+x"(x));  // each product is computed anew
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
    }
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSumsMaddubs; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return static_cast<uint64_t>(_mm256_extract_epi32(sums[0], 0));
}

__attribute__((target("avx512f,avx512bw,avx512bf16"))) uint64_t bf16_avx512(int64_t rounds) {
  __m512 sums[kSums];
  __m512i x = _mm512_set1_epi16(0x3f80), y = _mm512_set1_epi16(0x3f80);  // ones
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm512_setzero_ps();
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(x), "+v"(y));
    REDOUBT_UNROLL
    for (auto& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
    }
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, sums[0]);
  return static_cast<uint64_t>(lanes[0] * 0x1p-20f);
}

__attribute__((target("avx512f"))) uint64_t f32_avx512(int64_t rounds) {
  __m512 sums[kSums], x = _mm512_set1_ps(1.0f), y = _mm512_set1_ps(0.5f);
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm512_setzero_ps();
    asm volatile("" : "+v"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    REDOUBT_UNROLL
    for (auto& sum : sums) sum = _mm512_fmadd_ps(x, y, sum);
    asm volatile("" : "+v"(x), "+v"(y));
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, sums[0]);
  return static_cast<uint64_t>(lanes[0] * 0x1p-20f);
}

__attribute__((target("avx2,fma"))) uint64_t f32_fma(int64_t rounds) {
  __m256 sums[kSums256], x = _mm256_set1_ps(1.0f), y = _mm256_set1_ps(0.5f);
  REDOUBT_UNROLL
  for (auto& sum : sums) {
    sum = _mm256_setzero_ps();
    asm volatile("" : "+x"(sum));
  }
  for (int64_t i = 0; i < rounds; ++i) {
    REDOUBT_UNROLL
    for (auto& sum : sums) sum = _mm256_fmadd_ps(x, y, sum);
    asm volatile("" : "+x"(x), "+x"(y));
  }
  REDOUBT_UNROLL
  for (int i = 1; i < kSums256; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return static_cast<uint64_t>(_mm256_cvtss_f32(sums[0]) * 0x1p-20f);
}

#elif defined(__aarch64__)

constexpr int kSums = 16;

// In assembly: not every compiler offers the intrinsic without the option that would let it use the instruction
// everywhere.
#define REDOUBT_ARM_LOOP(NAME, ARCH, INSTRUCTION)                                    \
  uint64_t NAME(int64_t rounds) {                                                    \
    int32x4_t sums[kSums];                                                           \
    const int8x16_t x = vdupq_n_s8(0), y = vdupq_n_s8(0);                            \
    REDOUBT_UNROLL                                                                   \
    for (auto& sum : sums) sum = vdupq_n_s32(0);                                     \
    for (int64_t i = 0; i < rounds; ++i) {                                           \
      REDOUBT_UNROLL                                                                 \
      for (auto& sum : sums) {                                                       \
        asm volatile(".arch " ARCH "\n\t" INSTRUCTION : "+w"(sum) : "w"(x), "w"(y)); \
      }                                                                              \
    }                                                                                \
    REDOUBT_UNROLL                                                                   \
    for (int i = 1; i < kSums; ++i) sums[0] = vaddq_s32(sums[0], sums[i]);           \
    return static_cast<uint64_t>(vaddvq_s32(sums[0]));                               \
  }
REDOUBT_ARM_LOOP(int8_i8mm, "armv8.2-a+i8mm", "smmla %0.4s, %1.16b, %2.16b")
REDOUBT_ARM_LOOP(int8_dotprod, "armv8.2-a+dotprod", "sdot %0.4s, %1.16b, %2.16b")
REDOUBT_ARM_LOOP(bf16_bfmmla, "armv8.2-a+bf16", "bfmmla %0.4s, %1.8h, %2.8h")
REDOUBT_ARM_LOOP(f32_neon, "armv8-a", "fmla %0.4s, %1.4s, %2.4s")
#undef REDOUBT_ARM_LOOP

// A bit of AT_HWCAP2, linux/arch/arm64/include/uapi/asm/hwcap.h
bool has_bf16() { return (getauxval(AT_HWCAP2) & (1ul << 14)) != 0; }

#endif

}  // namespace

ReadLoop read_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return read_avx512;
  if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
  return read_plain;
}

ArithmeticLoop int8_loop() {
#if defined(__x86_64__)
  if (cpu::has_amx()) return {amx<int8_dots>, 4 * kTileOps, "amx"};
  if (__builtin_cpu_supports("avx512vnni")) return {int8_avx512_vnni, 2.0 * 64 * kSums, "avx512vnni"};
  if (cpu::has_avx2() && cpu::has_avx_vnni()) return {int8_avx_vnni, 2.0 * 32 * kSums256, "avxvnni"};
  if (__builtin_cpu_supports("avx2")) return {int8_avx2, 2.0 * 32 * kSumsMaddubs, "avx2"};
#elif defined(__aarch64__)
  if (cpu::has_i8mm()) return {int8_i8mm, 2.0 * 32 * kSums, "i8mm"};
  if (cpu::has_dotprod()) return {int8_dotprod, 2.0 * 16 * kSums, "dotprod"};
#endif
  return {};
}

ArithmeticLoop bf16_loop() {
#if defined(__x86_64__)
  if (cpu::has_amx()) return {amx<bf16_dots>, 4 * kTileOps / 2, "amx"};
  if (__builtin_cpu_supports("avx512bf16")) return {bf16_avx512, 2.0 * 32 * kSums, "avx512bf16"};
  if (__builtin_cpu_supports("avx512f")) return {f32_avx512, 2.0 * 16 * kSums, "avx512f"};
  if (__builtin_cpu_supports("fma")) return {f32_fma, 2.0 * 8 * kSums256, "fma"};
#elif defined(__aarch64__)
  if (has_bf16()) return {bf16_bfmmla, 2.0 * 16 * kSums, "bf16"};
  return {f32_neon, 2.0 * 4 * kSums, "neon"};
#endif
  return {};
}

}  // namespace redoubt
