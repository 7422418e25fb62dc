// Vectors of floats for tests of kernels: made from a seed, compared by bits or by the largest deviation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace redoubt::test {

// n values, uniform in -1 .. 1.
inline std::vector<float> random_floats(uint32_t seed, int64_t n) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = uniform(generator);
  return values;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The largest deviation over the largest expected magnitude; infinity if anything found is not finite.
inline float relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  float worst = 0, largest = 1e-30f;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    worst = std::max(worst, std::fabs(found[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return worst / largest;
}

}  // namespace redoubt::test
