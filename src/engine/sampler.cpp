#include "engine/sampler.h"

#include <algorithm>
#include <limits>

#include "engine/exponential.h"

namespace redoubt {

int32_t largest_logit(std::span<const float> logits) {
  int32_t best = -1;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > largest) {  // false for NaN
      largest = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

namespace {

// Larger logits first, of equal ones lower ids.
struct Before {
  std::span<const float> logits;
  bool operator()(int32_t a, int32_t b) const {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  }
};

}  // namespace

std::optional<int32_t> Sampler::draw(std::span<const float> logits, const SamplingParams& params, double uniform) {
  kept_.clear();
  const int32_t best = largest_logit(logits);
  if (best < 0) return std::nullopt;
  if (params.temperature < 1e-5) return best;
  const float largest = logits[static_cast<size_t>(best)];
  if (largest == std::numeric_limits<float>::infinity()) return std::nullopt;

  weigh(logits, largest, static_cast<float>(1.0 / params.temperature));
  const float least_weight = static_cast<float>(params.min_p);
  const bool has_top_k = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  if (!has_top_k && params.top_p >= 1.0) return draw_from_all(least_weight, uniform);

  fill_buckets();
  if (has_top_k) cut_top_k(logits, params.top_k);
  if (params.top_p < 1.0) cut_top_p(logits, params.top_p);
  return draw_from_kept(least_weight, uniform);
}

void Sampler::weigh(std::span<const float> logits, float largest, float inverse_temperature) {
  const size_t size = logits.size();
  distance_.resize(size);
  weight_.resize(size);
  constexpr size_t kLanes = 16;  // a fixed inner count over local arrays lets the compiler vectorise at -O2
  size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    float distance[kLanes], weight[kLanes];
    std::copy_n(logits.data() + i, kLanes, distance);
    for (size_t j = 0; j < kLanes; ++j) distance[j] = (largest - distance[j]) * inverse_temperature;
    for (size_t j = 0; j < kLanes; ++j) weight[j] = exp_of_negative(-distance[j]);
    std::copy_n(distance, kLanes, distance_.data() + i);
    std::copy_n(weight, kLanes, weight_.data() + i);
  }
  for (; i < size; ++i) {
    distance_[i] = (largest - logits[i]) * inverse_temperature;
    weight_[i] = exp_of_negative(-distance_[i]);
  }
}

namespace {

// False for infinity and NaN: a forbidden token.
bool is_allowed(float distance) { return distance <= std::numeric_limits<float>::max(); }

int bucket_of(float distance, float per_unit, int buckets) {
  const float at = distance * per_unit;
  return at < static_cast<float>(buckets - 1) ? static_cast<int>(at) : buckets - 1;
}

}  // namespace

void Sampler::fill_buckets() {
  bucket_count_.fill(0);
  bucket_weight_.fill(0.0);
  for (size_t i = 0; i < distance_.size(); ++i) {
    if (!is_allowed(distance_[i])) continue;
    const auto bucket = static_cast<size_t>(bucket_of(distance_[i], kBucketsPerUnit, kBuckets));
    ++bucket_count_[bucket];
    bucket_weight_[bucket] += weight_[i];
  }
  cut_bucket_ = kBuckets;
  cut_.clear();
}

void Sampler::collect_bucket(int bucket) {
  cut_bucket_ = bucket;
  cut_.clear();
  for (size_t i = 0; i < distance_.size(); ++i)
    if (is_allowed(distance_[i]) && bucket_of(distance_[i], kBucketsPerUnit, kBuckets) == bucket)
      cut_.push_back(static_cast<int32_t>(i));
}

void Sampler::cut_top_k(std::span<const float> logits, int64_t top_k) {
  int64_t left = top_k;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    const int64_t count = bucket_count_[static_cast<size_t>(bucket)];
    if (count < left) {
      left -= count;
      continue;
    }
    collect_bucket(bucket);
    if (left < count) {
      std::nth_element(cut_.begin(), cut_.begin() + left, cut_.end(), Before{logits});
      cut_.resize(static_cast<size_t>(left));
    }
    return;
  }  // fewer are allowed than top_k: no cut
}

void Sampler::cut_top_p(std::span<const float> logits, double top_p) {
  double total = 0.0;
  for (int bucket = 0; bucket < cut_bucket_; ++bucket) total += bucket_weight_[static_cast<size_t>(bucket)];
  std::sort(cut_.begin(), cut_.end(), Before{logits});
  for (const int32_t token : cut_) total += weight_[static_cast<size_t>(token)];

  const double wanted = top_p * total;
  double sum = 0.0;
  for (int bucket = 0; bucket <= cut_bucket_ && bucket < kBuckets; ++bucket) {
    if (bucket != cut_bucket_) {
      if (sum + bucket_weight_[static_cast<size_t>(bucket)] < wanted) {
        sum += bucket_weight_[static_cast<size_t>(bucket)];
        continue;
      }
      collect_bucket(bucket);
      std::sort(cut_.begin(), cut_.end(), Before{logits});
    }
    size_t keep = 0;
    while (keep < cut_.size() && (keep == 0 || sum < wanted)) sum += weight_[static_cast<size_t>(cut_[keep++])];
    cut_.resize(keep);
    return;
  }
}

// A sum of each block first, so that only one block is walked token by token.
int32_t Sampler::draw_from_all(float least_weight, double uniform) {
  constexpr size_t kBlock = 256;
  const auto kept_weight = [&](size_t i) { return weight_[i] >= least_weight ? static_cast<double>(weight_[i]) : 0.0; };
  block_sums_.clear();
  double total = 0.0;
  for (size_t begin = 0; begin < weight_.size(); begin += kBlock) {
    const size_t end = std::min(begin + kBlock, weight_.size());
    double sums[4] = {};  // four running sums, added in a fixed order
    size_t i = begin;
    for (; i + 4 <= end; i += 4)
      for (size_t j = 0; j < 4; ++j) sums[j] += kept_weight(i + j);
    for (; i < end; ++i) sums[0] += kept_weight(i);
    block_sums_.push_back((sums[0] + sums[1]) + (sums[2] + sums[3]));
    total += block_sums_.back();
  }
  const double wanted = uniform * total;
  double sum = 0.0;
  size_t block = 0, last_block = 0;  // the block where the sum passes `wanted`, else the last that weighs anything
  for (; block < block_sums_.size() && sum + block_sums_[block] <= wanted; sum += block_sums_[block++])
    if (block_sums_[block] > 0.0) last_block = block;
  if (block == block_sums_.size()) block = last_block;
  const size_t end = std::min((block + 1) * kBlock, weight_.size());
  int32_t last = -1;
  for (size_t i = block * kBlock; i < end; ++i) {
    if (kept_weight(i) == 0.0) continue;
    sum += kept_weight(i);
    last = static_cast<int32_t>(i);
    if (sum > wanted) break;
  }
  return last;
}

int32_t Sampler::draw_from_kept(float least_weight, double uniform) {
  const float cut_at = static_cast<float>(cut_bucket_);
  const bool no_cut = cut_bucket_ == kBuckets;
  std::sort(cut_.begin(), cut_.end());
  auto next = cut_.begin();
  for (size_t i = 0; i < distance_.size(); ++i) {
    const bool before_cut = no_cut ? is_allowed(distance_[i]) : distance_[i] * kBucketsPerUnit < cut_at;
    const bool in_cut = next != cut_.end() && static_cast<size_t>(*next) == i;
    if (in_cut) ++next;
    if ((before_cut || in_cut) && weight_[i] >= least_weight) kept_.push_back(static_cast<int32_t>(i));
  }
  double total = 0.0;
  for (const int32_t token : kept_) total += weight_[static_cast<size_t>(token)];
  const double wanted = uniform * total;
  double sum = 0.0;
  int32_t last = kept_.front();
  for (const int32_t token : kept_) {
    if (weight_[static_cast<size_t>(token)] == 0.0f) continue;
    sum += weight_[static_cast<size_t>(token)];
    last = token;
    if (sum > wanted) break;
  }
  return last;
}

}  // namespace redoubt
