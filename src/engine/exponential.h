// exp and log without the C library, whose last bit differs between machines: a token must not depend on it.
// Only additions, multiplications and divisions, each rounded once (-ffp-contract=off), so vectorised or not, the bits
// are the same.
#pragma once

#include <bit>
#include <cstdint>

namespace redoubt {

// e^x for x <= 0, relative error under 2e-7; 0 below -87 (under the smallest normal float) and for NaN.
// x = n ln 2 + r with |r| <= ln(2)/2; e^r by its Taylor polynomial of degree 7 (remainder 6e-9); times 2^n.
// The comparison is made on the bits: an integer comparison cannot trap, so the compiler may vectorise the loop around.
inline float exp_of_negative(float x) {
  constexpr int32_t kEnd = std::bit_cast<int32_t>(87.0f);
  const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7fffffff;
  const float bounded = -std::bit_cast<float>(magnitude < kEnd ? magnitude : kEnd);
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits
  const float shifted = bounded * 1.44269504f + kToInteger;
  const float n = shifted - kToInteger;
  // ln 2 in two parts; n times the first (17 bits) is exact.
  const float r = (bounded - n * 0.693145751953125f) - n * 1.42860682e-6f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t times_power = std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23);
  const uint32_t keep = magnitude < kEnd ? 0xffffffffu : 0u;
  return std::bit_cast<float>(times_power & keep);
}

// ln x for a positive normal x, relative error under 1e-15.
// x = m 2^e with m in [1/sqrt 2, sqrt 2); ln m = 2 artanh(s), s = (m-1)/(m+1), |s| < 0.172.
inline double log_of_positive(double x) {
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
  double m = std::bit_cast<double>(bits);
  if (m > 1.4142135623730951) m *= 0.5, ++exponent;
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double sum = 0.0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2.0 * s * sum;
}

}  // namespace redoubt
