// What one decode step must read of the weights, by the names of a checkpoint's tensors.
#pragma once

#include <cstdint>

#include "formats/checkpoint.h"

namespace redoubt {

struct WeightTraffic {
  int64_t always_bytes = 0;    // read by every step: attention, norms, dense and shared experts, the head
  int64_t expert_bytes = 0;    // all routed experts together
  int64_t always_weights = 0;  // the same, counted in weights
  int64_t expert_weights = 0;
  double expert_share = 0;  // of the routed experts that one token is sent to

  double bytes_per_token() const {
    return static_cast<double>(always_bytes) + expert_share * static_cast<double>(expert_bytes);
  }
  // Experts read by a step of `batch` tokens that choose independently.
  double bytes_per_step(int64_t batch) const;
  double weights_per_token() const {  // multiply-adds
    return static_cast<double>(always_weights) + expert_share * static_cast<double>(expert_weights);
  }
};
WeightTraffic weight_traffic(const Checkpoint& checkpoint);

}  // namespace redoubt
