#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace redoubt {
namespace {

// Cosine and sine of a float angle: reduction by multiples of pi/2 in double (exact enough to 2^30), Taylor polynomials
// on
// [-pi/4, pi/4] with error under 1e-13. IEEE operations only, so equal on every machine.
void cos_sin_of(float angle, float* cosine, float* sine) {
  const double x = angle;
  const double turns = std::nearbyint(x * (2.0 / std::numbers::pi));
  double r = x - turns * 1.5707963267341256e+00;  // pi/2 in two parts: 33 bits and the rest
  r -= turns * 6.0771005065061922e-11;
  const double r2 = r * r;
  const double s =
      r * (1 + r2 * (-1.0 / 6 + r2 * (1.0 / 120 + r2 * (-1.0 / 5040 + r2 * (1.0 / 362880 + r2 * (-1.0 / 39916800))))));
  const double c =
      1 +
      r2 * (-0.5 + r2 * (1.0 / 24 + r2 * (-1.0 / 720 + r2 * (1.0 / 40320 + r2 * (-1.0 / 3628800 + r2 / 479001600)))));
  switch (static_cast<int64_t>(turns) & 3) {
    case 0:
      *cosine = static_cast<float>(c);
      *sine = static_cast<float>(s);
      break;
    case 1:
      *cosine = static_cast<float>(-s);
      *sine = static_cast<float>(c);
      break;
    case 2:
      *cosine = static_cast<float>(-c);
      *sine = static_cast<float>(-s);
      break;
    default:
      *cosine = static_cast<float>(s);
      *sine = static_cast<float>(-c);
      break;
  }
}

// The dimension at which a rotation makes `turns` turns over the original context; YaRN's find_correction_dim.
double correction_dim(const RopeConfig& config, int64_t dim, double turns) {
  return static_cast<double>(dim) *
         std::log(static_cast<double>(config.original_max_position_embeddings) / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

float llama3_frequency(const RopeConfig& config, double f) {
  const double original = static_cast<double>(config.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / f;
  if (wavelength < original / config.high_freq_factor) return static_cast<float>(f);
  if (wavelength > original / config.low_freq_factor) return static_cast<float>(f / config.factor);
  const double smooth =
      (original / wavelength - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return static_cast<float>((1 - smooth) * f / config.factor + smooth * f);
}

}  // namespace

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

RopeTable RopeTable::make(const RopeConfig& config, RopeStyle style, int64_t dim) {
  RopeTable table;
  table.style = style;
  const bool yarn = config.scaling == RopeConfig::Scaling::yarn;
  double low = 0, high = 0;
  if (yarn) {
    low = std::max(0.0, std::floor(correction_dim(config, dim, config.beta_fast)));
    high = std::min(static_cast<double>(dim - 1), std::ceil(correction_dim(config, dim, config.beta_slow)));
    if (low == high) high += 0.001;
    if (config.attention_factor != 0) {
      table.magnitude = static_cast<float>(config.attention_factor);
    } else if (config.mscale_all_dim != 0) {
      table.magnitude = static_cast<float>(yarn_mscale(config.factor, config.mscale) /
                                           yarn_mscale(config.factor, config.mscale_all_dim));
    } else {
      table.magnitude = static_cast<float>(yarn_mscale(config.factor, 1.0));
    }
  }
  for (int64_t i = 0; i < dim / 2; ++i) {
    const double f = std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    double scaled = f;
    switch (config.scaling) {
      case RopeConfig::Scaling::none:
        break;
      case RopeConfig::Scaling::linear:
        scaled = f / config.factor;
        break;
      case RopeConfig::Scaling::llama3:
        scaled = llama3_frequency(config, f);
        break;
      case RopeConfig::Scaling::factors:
        scaled = f / config.freq_divisors[static_cast<size_t>(i)];
        break;
      case RopeConfig::Scaling::yarn: {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        scaled = f * (1 - ramp) + f / config.factor * ramp;
        break;
      }
    }
    table.inv_freq.push_back(static_cast<float>(scaled));
  }
  return table;
}

Tensor rope_angles(OpContext& ctx, const RopeTable& table, std::span<const int32_t> positions) {
  const auto pairs = static_cast<int64_t>(table.inv_freq.size());
  const Tensor result = ctx.arena.tensor(static_cast<int64_t>(positions.size()), 2 * pairs);
  over_rows(ctx, result.rows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto position = static_cast<float>(positions[static_cast<size_t>(t)]);
      float* row = result.row(t);
      for (int64_t i = 0; i < pairs; ++i) {
        cos_sin_of(position * table.inv_freq[static_cast<size_t>(i)], row + 2 * i, row + 2 * i + 1);
        row[2 * i] *= table.magnitude;
        row[2 * i + 1] *= table.magnitude;
      }
    }
  });
  return result;
}

void rope_rotate(const RopeTable& table, const float* cos_sin, float* x, int64_t heads, int64_t stride) {
  const auto pairs = static_cast<int64_t>(table.inv_freq.size());
  const bool interleaved = table.style == RopeStyle::interleaved;
  for (int64_t h = 0; h < heads; ++h, x += stride) {
    for (int64_t i = 0; i < pairs; ++i) {
      float& a = interleaved ? x[2 * i] : x[i];
      float& b = interleaved ? x[2 * i + 1] : x[i + pairs];
      const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], a0 = a, b0 = b;
      a = a0 * c - b0 * s;
      b = b0 * c + a0 * s;
    }
  }
}

}  // namespace redoubt
