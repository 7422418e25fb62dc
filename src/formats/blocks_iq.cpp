// The IQ types: each run of 8 or 4 values is an entry of a codebook, with signs beside it.
#include <bit>

#include "formats/block_codecs.h"
#include "formats/iq_grids.h"

namespace redoubt::codec {
namespace {

// Seven stored signs; the eighth makes their number even.
uint8_t even_signs(uint32_t seven) {
  return static_cast<uint8_t>(seven | (static_cast<uint32_t>(std::popcount(seven)) & 1u) << 7);
}

void emit2(float scale, uint16_t entry, uint8_t signs, float* out) {
  for (int i = 0; i < 8; ++i) {
    const float value = scale * iq::kLevels2[(entry >> (2 * i)) & 3];
    out[i] = (signs >> i) & 1 ? -value : value;
  }
}

void emit3(float scale, uint16_t entry, const float* levels, int signs, float* out) {
  for (int i = 0; i < 4; ++i) {
    const float value = scale * levels[(entry >> (3 * i)) & 7];
    out[i] = (signs >> i) & 1 ? -value : value;
  }
}

void emit1(float scale, uint16_t entry, float delta, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * (iq::kLevels1[(entry >> (2 * i)) & 3] + delta);
}

}  // namespace

void decode_iq2_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int ib = 0; ib < 8; ++ib) {
    const uint8_t* q = block + 2 + 8 * ib;
    const uint32_t word = load_u32(q + 4);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
    for (int k = 0; k < 4; ++k) {
      emit2(scale, iq::kGrid2xxs[q[k]], even_signs((word >> (7 * k)) & 127u), out + 32 * ib + 8 * k);
    }
  }
}

void decode_iq2_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t* scales = block + 66;
  for (int run = 0; run < 32; ++run) {
    const uint16_t q = load_u16(block + 2 + 2 * run);
    const int s = (scales[run >> 2] >> (4 * ((run >> 1) & 1))) & 15;
    const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
    emit2(scale, iq::kGrid2xs[q & 511], even_signs(q >> 9), out + 8 * run);
  }
}

void decode_iq2_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t *q = block + 2, *signs = block + 34, *high = block + 66, *scales = block + 74;
  for (int run = 0; run < 32; ++run) {
    const int entry = q[run] | ((high[run >> 2] >> (2 * (run & 3))) & 3) << 8;
    const int s = (scales[run >> 2] >> (4 * ((run >> 1) & 1))) & 15;
    const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
    emit2(scale, iq::kGrid2s[static_cast<size_t>(entry)], signs[run], out + 8 * run);
  }
}

void decode_iq3_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int ib = 0; ib < 8; ++ib) {
    const uint8_t* q = block + 2 + 8 * ib;
    const uint32_t word = load_u32(block + 66 + 4 * ib);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    for (int k = 0; k < 8; ++k) {
      const int signs = even_signs((word >> (7 * (k >> 1))) & 127u) >> (4 * (k & 1));
      emit3(scale, iq::kGrid3xxs[q[k]], iq::kLevels3xxs, signs, out + 32 * ib + 4 * k);
    }
  }
}

void decode_iq3_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t *q = block + 2, *high = block + 66, *signs = block + 74, *scales = block + 106;
  for (int run = 0; run < 64; ++run) {
    const int entry = q[run] | ((high[run >> 3] >> (run & 7)) & 1) << 8;
    const int s = (scales[run >> 4] >> (4 * ((run >> 3) & 1))) & 15;
    const float scale = d * static_cast<float>(1 + 2 * s);
    emit3(scale, iq::kGrid3s[static_cast<size_t>(entry)], iq::kLevels3s, signs[run >> 1] >> (4 * (run & 1)),
          out + 4 * run);
  }
}

void decode_iq1_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint8_t* q = block + 2;
  for (int ib = 0; ib < 8; ++ib) {
    const uint16_t high = load_u16(block + 34 + 2 * ib);
    const float scale = d * static_cast<float>(2 * ((high >> 12) & 7) + 1);
    const float delta = (high & 0x8000u) != 0 ? -0.125f : 0.125f;
    for (int k = 0; k < 4; ++k) {
      const int entry = q[4 * ib + k] | ((high >> (3 * k)) & 7) << 8;
      emit1(scale, iq::kGrid1s[static_cast<size_t>(entry)], delta, out + 32 * ib + 8 * k);
    }
  }
}

// The half that scales the block is spread over the top nibbles of the four scale words.
void decode_iq1_m(const uint8_t* block, float* out) {
  const uint8_t *q = block, *high = block + 32, *scales = block + 48;
  uint32_t half = 0;
  for (int i = 0; i < 4; ++i) half |= static_cast<uint32_t>(load_u16(scales + 2 * i) >> 12) << (4 * i);
  const float d = float_from_f16(static_cast<uint16_t>(half));
  for (int run = 0; run < 32; ++run) {
    const int pair = run >> 1;  // two runs share a scale
    const int s = (load_u16(scales + 2 * (pair >> 2)) >> (3 * (pair & 3))) & 7;
    const int top = high[run >> 1] >> (4 * (run & 1));
    const int entry = q[run] | (top & 7) << 8;
    emit1(d * static_cast<float>(2 * s + 1), iq::kGrid1s[static_cast<size_t>(entry)], (top & 8) != 0 ? -0.125f : 0.125f,
          out + 8 * run);
  }
}

void decode_iq4_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const uint16_t high = load_u16(block + 2);
  const uint8_t *low = block + 4, *q = block + 8;
  for (int ib = 0; ib < 8; ++ib) {
    const int s = ((low[ib >> 1] >> (4 * (ib & 1))) & 15) | ((high >> (2 * ib)) & 3) << 4;
    const float scale = d * static_cast<float>(s - 32);
    for (int j = 0; j < 16; ++j) {
      out[32 * ib + j] = scale * static_cast<float>(kIq4Levels[lo(q[16 * ib + j])]);
      out[32 * ib + 16 + j] = scale * static_cast<float>(kIq4Levels[hi(q[16 * ib + j])]);
    }
  }
}

}  // namespace redoubt::codec
