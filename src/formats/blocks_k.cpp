// The K types: 256 values in sub-blocks of 16 or 32, whose small scales share one or two halves.
#include "formats/block_codecs.h"
#include "formats/k_scales.h"

namespace redoubt::codec {

void decode_q2_k(const uint8_t* block, float* out) {
  const uint8_t* scales = block;
  const uint8_t* q = block + 16;
  const float d = load_f16(block + 80), dmin = load_f16(block + 82);
  for (int e = 0; e < 256; ++e) {
    const int n = e >> 7, j = (e >> 5) & 3, l = e & 31;
    const uint8_t scale = scales[8 * n + 2 * j + (l >> 4)];
    const int q2 = (q[32 * n + l] >> (2 * j)) & 3;
    out[e] = d * static_cast<float>(lo(scale)) * static_cast<float>(q2) - dmin * static_cast<float>(hi(scale));
  }
}

void decode_q3_k(const uint8_t* block, float* out) {
  const uint8_t* mask = block;
  const uint8_t* q = block + 32;
  const uint8_t* packed = block + 96;
  const float d = load_f16(block + 108);
  float scale[16];
  for (int s = 0; s < 16; ++s) {
    const int low = s < 8 ? lo(packed[s]) : hi(packed[s - 8]);
    const int high = (packed[8 + (s & 3)] >> (2 * (s >> 2))) & 3;
    scale[s] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (int e = 0; e < 256; ++e) {
    const int n = e >> 7, j = (e >> 5) & 3, l = e & 31;
    const int q2 = (q[32 * n + l] >> (2 * j)) & 3;
    const int value = (mask[l] >> (4 * n + j)) & 1 ? q2 : q2 - 4;
    out[e] = scale[8 * n + 2 * j + (l >> 4)] * static_cast<float>(value);
  }
}

void decode_q4_k(const uint8_t* block, float* out) {
  const float d = load_f16(block), dmin = load_f16(block + 2);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin pair = unpack_scale_min(block + 4, s);
    const float scale = d * static_cast<float>(pair.scale), min = dmin * static_cast<float>(pair.min);
    const uint8_t* q = block + 16 + 32 * (s >> 1);
    for (int l = 0; l < 32; ++l) {
      out[32 * s + l] = scale * static_cast<float>((q[l] >> (4 * (s & 1))) & 15) - min;
    }
  }
}

void decode_q5_k(const uint8_t* block, float* out) {
  const float d = load_f16(block), dmin = load_f16(block + 2);
  const uint8_t* top = block + 16;
  for (int s = 0; s < 8; ++s) {
    const ScaleMin pair = unpack_scale_min(block + 4, s);
    const float scale = d * static_cast<float>(pair.scale), min = dmin * static_cast<float>(pair.min);
    const uint8_t* q = block + 48 + 32 * (s >> 1);
    for (int l = 0; l < 32; ++l) {
      const int value = ((q[l] >> (4 * (s & 1))) & 15) | ((top[l] >> s) & 1) << 4;
      out[32 * s + l] = scale * static_cast<float>(value) - min;
    }
  }
}

void decode_q6_k(const uint8_t* block, float* out) {
  const uint8_t* low = block;
  const uint8_t* high = block + 128;
  const uint8_t* scales = block + 192;
  const float d = load_f16(block + 208);
  for (int e = 0; e < 256; ++e) {
    const int n = e >> 7, g = (e >> 5) & 3, l = e & 31;
    const int nibble = (low[64 * n + 32 * (g & 1) + l] >> (4 * (g >> 1))) & 15;
    const int value = (nibble | ((high[32 * n + l] >> (2 * g)) & 3) << 4) - 32;
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[8 * n + 2 * g + (l >> 4)]));
    out[e] = scale * static_cast<float>(value);
  }
}

void decode_q8_k(const uint8_t* block, float* out) {  // f32 scale, 256 int8, 16 sums that only dot products use
  const float d = std::bit_cast<float>(load_u32(block));
  for (int e = 0; e < 256; ++e) out[e] = d * static_cast<float>(static_cast<int8_t>(block[4 + e]));
}

}  // namespace redoubt::codec
