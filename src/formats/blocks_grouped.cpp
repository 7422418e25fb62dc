// The blocks into which other programs' quantised matrices are put (docs/formats/quantised-directories.md): codes with
// a scale and a zero point, and NF4. Nibbles lie in units of 32 columns, as in Q4_0: byte j holds columns j and 16 + j.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "formats/block_codecs.h"

namespace redoubt::codec {

// Source: QLoRA (arXiv:2305.14314) appendix E; the levels of bitsandbytes.
const float kNf4Levels[16] = {-1.0f,
                              -0.6961928009986877f,
                              -0.5250730514526367f,
                              -0.39491748809814453f,
                              -0.28444138169288635f,
                              -0.18477343022823334f,
                              -0.09105003625154495f,
                              0.0f,
                              0.07958029955625534f,
                              0.16093020141124725f,
                              0.24611230194568634f,
                              0.33791524171829224f,
                              0.44070982933044434f,
                              0.5626170039176941f,
                              0.7229568362236023f,
                              1.0f};

namespace {

float load_f32(const uint8_t* p) {
  float value;
  std::memcpy(&value, p, 4);
  return value;
}

template <int Columns, class Value>
void each_nibble(const uint8_t* codes, float* out, const Value& value) {
  for (int unit = 0; unit < Columns / 32; ++unit) {
    for (int j = 0; j < 16; ++j) {
      const uint8_t byte = codes[16 * unit + j];
      out[32 * unit + j] = value(lo(byte));
      out[32 * unit + 16 + j] = value(hi(byte));
    }
  }
}

template <int Columns>
void decode_g4(const uint8_t* block, float* out) {
  const float d = load_f16(block), m = -(d * static_cast<float>(block[2]));
  each_nibble<Columns>(block + 3, out, [d, m](int code) { return d * static_cast<float>(code) + m; });
}
template <int Columns>
void decode_i8(const uint8_t* block, float* out) {
  const float d = load_f32(block);
  for (int j = 0; j < Columns; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[4 + j]));
}

struct Range {
  float scale, zero;
};
Range range_of(const float* in, int columns, int codes) {  // codes 0 .. codes - 1, the zero point among them
  float low = 0, high = 0;
  for (int j = 0; j < columns; ++j) {
    low = std::min(low, in[j]);
    high = std::max(high, in[j]);
  }
  const float scale = high > low ? (high - low) / static_cast<float>(codes - 1) : 1.0f;
  return {scale, static_cast<float>(rounded(-low / scale, 0, codes - 1))};
}

template <int Columns>
void encode_g4(const float* in, uint8_t* block) {
  const Range range = range_of(in, Columns, 16);
  store_f16(block, range.scale);
  block[2] = static_cast<uint8_t>(range.zero);
  const float scale = load_f16(block), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  for (int unit = 0; unit < Columns / 32; ++unit) {
    for (int j = 0; j < 16; ++j) {
      const float* at = in + 32 * unit + j;
      block[3 + 16 * unit + j] = static_cast<uint8_t>(rounded(at[0] * inverse + range.zero, 0, 15) |
                                                      rounded(at[16] * inverse + range.zero, 0, 15) << 4);
    }
  }
}
template <int Columns>
void encode_i8(const float* in, uint8_t* block) {
  float top = 0;
  for (int j = 0; j < Columns; ++j) top = std::max(top, std::fabs(in[j]));
  const float scale = top / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0.0f;
  std::memcpy(block, &scale, 4);
  for (int j = 0; j < Columns; ++j) block[4 + j] = static_cast<uint8_t>(rounded(in[j] * inverse, -127, 127));
}

}  // namespace

void decode_g4_32(const uint8_t* block, float* out) { decode_g4<32>(block, out); }
void decode_g4_64(const uint8_t* block, float* out) { decode_g4<64>(block, out); }
void decode_g4_128(const uint8_t* block, float* out) { decode_g4<128>(block, out); }
void decode_i8_32(const uint8_t* block, float* out) { decode_i8<32>(block, out); }
void decode_i8_128(const uint8_t* block, float* out) { decode_i8<128>(block, out); }
void decode_g8_32(const uint8_t* block, float* out) {
  const float d = load_f32(block), m = -(d * (load_f16(block + 4) - 128.0f));
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block[6 + j] - 128) + m;
}
void decode_nf4(const uint8_t* block, float* out) {
  const float d = load_f32(block);
  each_nibble<64>(block + 4, out, [d](int code) { return d * kNf4Levels[code]; });
}

void encode_g4_32(const float* in, uint8_t* block) { encode_g4<32>(in, block); }
void encode_g4_64(const float* in, uint8_t* block) { encode_g4<64>(in, block); }
void encode_g4_128(const float* in, uint8_t* block) { encode_g4<128>(in, block); }
void encode_i8_32(const float* in, uint8_t* block) { encode_i8<32>(in, block); }
void encode_i8_128(const float* in, uint8_t* block) { encode_i8<128>(in, block); }
void encode_g8_32(const float* in, uint8_t* block) {
  const Range range = range_of(in, 32, 256);
  std::memcpy(block, &range.scale, 4);
  store_f16(block + 4, range.zero);
  for (int j = 0; j < 32; ++j) {
    block[6 + j] = static_cast<uint8_t>(rounded(in[j] / range.scale + range.zero, 0, 255));
  }
}
void encode_nf4(const float* in, uint8_t* block) {
  float top = 0;
  for (int j = 0; j < 64; ++j) top = std::max(top, std::fabs(in[j]));
  std::memcpy(block, &top, 4);
  const auto nearest = [top](float value) {
    const float x = top > 0 ? value / top : 0.0f;
    int code = 0;
    while (code < 15 && x > 0.5f * (kNf4Levels[code] + kNf4Levels[code + 1])) ++code;
    return code;
  };
  for (int unit = 0; unit < 2; ++unit) {
    for (int j = 0; j < 16; ++j) {
      const float* at = in + 32 * unit + j;
      block[4 + 16 * unit + j] = static_cast<uint8_t>(nearest(at[0]) | nearest(at[16]) << 4);
    }
  }
}

}  // namespace redoubt::codec
