// The 32-element types (one scale for a run of 32), the ternary types, and the micro-scaled FP4 types.
#include "formats/block_codecs.h"

namespace redoubt::codec {

float half_e8m0(uint8_t exponent) {
  const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : static_cast<uint32_t>(exponent - 1) << 23;
  return std::bit_cast<float>(bits);
}

void decode_q4_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(lo(block[2 + j]) - 8);
    out[j + 16] = d * static_cast<float>(hi(block[2 + j]) - 8);
  }
}

void decode_q4_1(const uint8_t* block, float* out) {
  const float d = load_f16(block), m = load_f16(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(lo(block[4 + j])) + m;
    out[j + 16] = d * static_cast<float>(hi(block[4 + j])) + m;
  }
}

void decode_q5_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint32_t top = load_u32(block + 2);
  for (int j = 0; j < 32; ++j) {
    const uint8_t byte = block[6 + (j & 15)];
    const int nibble = j < 16 ? lo(byte) : hi(byte);
    out[j] = d * static_cast<float>((nibble | static_cast<int>((top >> j) & 1u) << 4) - 16);
  }
}

void decode_q5_1(const uint8_t* block, float* out) {
  const float d = load_f16(block), m = load_f16(block + 2);
  const uint32_t top = load_u32(block + 4);
  for (int j = 0; j < 32; ++j) {
    const uint8_t byte = block[8 + (j & 15)];
    const int nibble = j < 16 ? lo(byte) : hi(byte);
    out[j] = d * static_cast<float>(nibble | static_cast<int>((top >> j) & 1u) << 4) + m;
  }
}

void decode_q8_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
}

void decode_q8_1(const uint8_t* block, float* out) {  // bytes 2 and 3: the sum of the block, for dot products only
  const float d = load_f16(block);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[4 + j]));
}

void decode_iq4_nl(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(kIq4Levels[lo(block[2 + j])]);
    out[j + 16] = d * static_cast<float>(kIq4Levels[hi(block[2 + j])]);
  }
}

void decode_mxfp4(const uint8_t* block, float* out) {
  const float d = half_e8m0(block[0]);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(kE2m1Doubled[lo(block[1 + j])]);
    out[j + 16] = d * static_cast<float>(kE2m1Doubled[hi(block[1 + j])]);
  }
}

// Four runs of 16 values, each with an unsigned E4M3 scale; halved because the levels are doubled.
void decode_nvfp4(const uint8_t* block, float* out) {
  for (int run = 0; run < 4; ++run) {
    const uint8_t code = block[run] & 0x7fu;
    const float d = code == 0x7f ? 0.0f : float_from_e4m3(code) * 0.5f;
    for (int j = 0; j < 8; ++j) {
      const uint8_t byte = block[4 + 8 * run + j];
      out[16 * run + j] = d * static_cast<float>(kE2m1Doubled[lo(byte)]);
      out[16 * run + 8 + j] = d * static_cast<float>(kE2m1Doubled[hi(byte)]);
    }
  }
}

// Ternary digits as a base-3 fraction of a byte: multiplying by 3^k brings digit k to the top.
static float trit(uint8_t byte, int digit) {
  static constexpr uint8_t kPower[5] = {1, 3, 9, 27, 81};
  const uint8_t shifted = static_cast<uint8_t>(byte * kPower[digit]);
  return static_cast<float>(((shifted * 3) >> 8) - 1);
}

void decode_tq1_0(const uint8_t* block, float* out) {  // 32 bytes x 5 digits, 16 x 5, 4 x 4, then the scale
  const float d = load_f16(block + 52);
  for (int digit = 0; digit < 5; ++digit) {
    for (int j = 0; j < 32; ++j) out[32 * digit + j] = d * trit(block[j], digit);
    for (int j = 0; j < 16; ++j) out[160 + 16 * digit + j] = d * trit(block[32 + j], digit);
  }
  for (int digit = 0; digit < 4; ++digit) {
    for (int j = 0; j < 4; ++j) out[240 + 4 * digit + j] = d * trit(block[48 + j], digit);
  }
}

void decode_tq2_0(const uint8_t* block, float* out) {
  const float d = load_f16(block + 64);
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < 4; ++k) {
      for (int j = 0; j < 32; ++j) {
        out[128 * half + 32 * k + j] = d * static_cast<float>(((block[32 * half + j] >> (2 * k)) & 3) - 1);
      }
    }
  }
}

}  // namespace redoubt::codec
