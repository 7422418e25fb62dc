#include "formats/packing.h"

#include <algorithm>
#include <cstring>

#include "core/float_bits.h"
#include "core/result.h"
#include "formats/block_codecs.h"
#include "formats/k_scales.h"
#include "formats/packing_words.h"

namespace redoubt {
namespace {

constexpr int64_t kR = kPackedRows;

// How a stored block of one type is taken apart and put together again. `codes` are the raw codes of 32 columns.
struct Codec {
  PackedShape shape;
  int64_t stored_bytes;  // of one row's block
  void (*pack_header)(const uint8_t* block, int64_t row, uint8_t* header);
  void (*unpack_header)(const uint8_t* header, int64_t row, uint8_t* block);
  void (*read_codes)(const uint8_t* block, int64_t unit, uint8_t* codes);
  void (*write_codes)(const uint8_t* codes, int64_t unit, uint8_t* block);
  void (*put)(const uint8_t* codes, int64_t row, uint8_t* unit);
  void (*get)(const uint8_t* unit, int64_t row, uint8_t* codes);
  void (*scales)(const uint8_t* header, int64_t unit, int64_t row, float* scale, float* minimum);
  const int8_t* levels;  // value of a raw code, [planes][16], or null: the code itself
};

// Units: where the codes of one row lie among those of sixteen.

void put_nibbles(const uint8_t* codes, int64_t row, uint8_t* unit) {
  uint8_t bytes[16];
  for (int j = 0; j < 16; ++j) bytes[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[16 + j] & 15) << 4);
  for (int z = 0; z < 4; ++z) std::memcpy(unit + 64 * z + 4 * row, bytes + 4 * z, 4);
}
void get_nibbles(const uint8_t* unit, int64_t row, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    const uint8_t byte = unit[j / 4 * 64 + 4 * row + j % 4];
    codes[j] = byte & 15;
    codes[16 + j] = byte >> 4;
  }
}
void put_five(const uint8_t* codes, int64_t row, uint8_t* unit) {
  for (int b = 0; b < 4; ++b) {
    int bits = 0;
    for (int z = 0; z < 8; ++z) bits |= (codes[4 * z + b] >> 4 & 1) << z;
    unit[4 * row + b] = static_cast<uint8_t>(bits);
  }
  put_nibbles(codes, row, unit + 64);
}
void get_five(const uint8_t* unit, int64_t row, uint8_t* codes) {
  get_nibbles(unit + 64, row, codes);
  for (int k = 0; k < 32; ++k) {
    codes[k] = static_cast<uint8_t>(codes[k] | (unit[4 * row + k % 4] >> (k / 4) & 1) << 4);
  }
}
void put_six(const uint8_t* codes, int64_t row, uint8_t* unit) {
  for (int h = 0; h < 2; ++h) {
    for (int b = 0; b < 4; ++b) {
      int bits = 0;
      for (int z = 0; z < 4; ++z) bits |= (codes[16 * h + 4 * z + b] >> 4 & 3) << 2 * z;
      unit[64 * h + 4 * row + b] = static_cast<uint8_t>(bits);
    }
  }
  put_nibbles(codes, row, unit + 128);
}
void get_six(const uint8_t* unit, int64_t row, uint8_t* codes) {
  get_nibbles(unit + 128, row, codes);
  for (int k = 0; k < 32; ++k) {
    codes[k] = static_cast<uint8_t>(codes[k] | (unit[k / 16 * 64 + 4 * row + k % 4] >> (2 * (k / 4 % 4)) & 3) << 4);
  }
}
void put_bytes(const uint8_t* codes, int64_t row, uint8_t* unit) {
  for (int z = 0; z < 8; ++z) std::memcpy(unit + 64 * z + 4 * row, codes + 4 * z, 4);
}
void get_bytes(const uint8_t* unit, int64_t row, uint8_t* codes) {
  for (int z = 0; z < 8; ++z) std::memcpy(codes + 4 * z, unit + 64 * z + 4 * row, 4);
}

// Stored codes: nibbles of 32 columns with the low halves first (Q4_0 and its kin), bits above them, bytes.

template <int At>
void read_nibbles(const uint8_t* block, int64_t, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = block[At + j] & 15;
    codes[16 + j] = block[At + j] >> 4;
  }
}
template <int At>
void write_nibbles(const uint8_t* codes, int64_t, uint8_t* block) {
  for (int j = 0; j < 16; ++j) block[At + j] = static_cast<uint8_t>((codes[j] & 15) | (codes[16 + j] & 15) << 4);
}
template <int At>
void read_five(const uint8_t* block, int64_t unit, uint8_t* codes) {  // four bytes of fifth bits, then nibbles
  read_nibbles<At + 4>(block, unit, codes);
  const uint32_t bits = codec::load_u32(block + At);
  for (int k = 0; k < 32; ++k) codes[k] = static_cast<uint8_t>(codes[k] | (bits >> k & 1) << 4);
}
template <int At>
void write_five(const uint8_t* codes, int64_t unit, uint8_t* block) {
  write_nibbles<At + 4>(codes, unit, block);
  for (int i = 0; i < 4; ++i) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= (codes[8 * i + j] >> 4 & 1) << j;
    block[At + i] = static_cast<uint8_t>(bits);
  }
}
void read_signed_bytes(const uint8_t* block, int64_t, uint8_t* codes) {
  for (int k = 0; k < 32; ++k) codes[k] = block[2 + k] ^ 0x80;
}
void write_signed_bytes(const uint8_t* codes, int64_t, uint8_t* block) {
  for (int k = 0; k < 32; ++k) block[2 + k] = codes[k] ^ 0x80;
}
template <int At>
void read_k_nibbles(const uint8_t* block, int64_t unit, uint8_t* codes) {  // low halves: even unit, high: odd unit
  const uint8_t* q = block + At + 32 * (unit / 2);
  const int shift = unit % 2 == 0 ? 0 : 4;
  for (int k = 0; k < 32; ++k) codes[k] = q[k] >> shift & 15;
}
template <int At>
void write_k_nibbles(const uint8_t* codes, int64_t unit, uint8_t* block) {
  uint8_t* q = block + At + 32 * (unit / 2);
  const int shift = unit % 2 == 0 ? 0 : 4;
  for (int k = 0; k < 32; ++k) q[k] = static_cast<uint8_t>((q[k] & ~(15 << shift)) | (codes[k] & 15) << shift);
}
void read_q5_k(const uint8_t* block, int64_t unit, uint8_t* codes) {
  read_k_nibbles<48>(block, unit, codes);
  for (int k = 0; k < 32; ++k) codes[k] = static_cast<uint8_t>(codes[k] | (block[16 + k] >> unit & 1) << 4);
}
void write_q5_k(const uint8_t* codes, int64_t unit, uint8_t* block) {
  write_k_nibbles<48>(codes, unit, block);
  for (int k = 0; k < 32; ++k) {
    block[16 + k] = static_cast<uint8_t>((block[16 + k] & ~(1 << unit)) | (codes[k] >> 4 & 1) << unit);
  }
}
struct SixPlace {  // of unit 4 * half + g in a Q6_K block
  int64_t low, top;
  int low_shift, top_shift;
  explicit SixPlace(int64_t unit)
      : low(64 * (unit / 4) + 32 * (unit & 1)),
        top(128 + 32 * (unit / 4)),
        low_shift(static_cast<int>(unit >> 1 & 1) * 4),
        top_shift(static_cast<int>(unit & 3) * 2) {}
};
void read_q6_k(const uint8_t* block, int64_t unit, uint8_t* codes) {
  const SixPlace at(unit);
  for (int k = 0; k < 32; ++k) {
    codes[k] =
        static_cast<uint8_t>((block[at.low + k] >> at.low_shift & 15) | (block[at.top + k] >> at.top_shift & 3) << 4);
  }
}
void write_q6_k(const uint8_t* codes, int64_t unit, uint8_t* block) {
  const SixPlace at(unit);
  for (int k = 0; k < 32; ++k) {
    uint8_t &low = block[at.low + k], &top = block[at.top + k];
    low = static_cast<uint8_t>((low & ~(15 << at.low_shift)) | (codes[k] & 15) << at.low_shift);
    top = static_cast<uint8_t>((top & ~(3 << at.top_shift)) | (codes[k] >> 4) << at.top_shift);
  }
}

// Headers.

float half_at(const uint8_t* halves, int64_t row) { return codec::load_f16(halves + 2 * row); }

template <int Halves>  // d, or d and m
void pack_halves(const uint8_t* block, int64_t row, uint8_t* header) {
  for (int i = 0; i < Halves; ++i) std::memcpy(header + 2 * (kR * i + row), block + 2 * i, 2);
}
template <int Halves>
void unpack_halves(const uint8_t* header, int64_t row, uint8_t* block) {
  for (int i = 0; i < Halves; ++i) std::memcpy(block + 2 * i, header + 2 * (kR * i + row), 2);
}
void one_scale(const uint8_t* header, int64_t, int64_t row, float* scale, float*) {
  scale[0] = scale[1] = half_at(header, row);
}
void scale_and_minimum(const uint8_t* header, int64_t, int64_t row, float* scale, float* minimum) {
  scale[0] = scale[1] = half_at(header, row);
  *minimum = half_at(header + 2 * kR, row);
}
void pack_e8m0(const uint8_t* block, int64_t row, uint8_t* header) { header[row] = block[0]; }
void unpack_e8m0(const uint8_t* header, int64_t row, uint8_t* block) { block[0] = header[row]; }
void e8m0_scale(const uint8_t* header, int64_t, int64_t row, float* scale, float*) {
  scale[0] = scale[1] = codec::half_e8m0(header[row]);
}

// Q4_K, Q5_K: d[16], dmin[16], then the six-bit scales and minimums of eight units. Byte (u, r) of the eight by sixteen
// matrices S and M is split: low nibbles of S and M share a byte of two 64-byte vectors (u < 4, u >= 4), and the top
// two bits of all four quarters share a byte of a third.
constexpr int64_t kLow = 4 * kR, kTop = kLow + 8 * kR;
void pack_k_header(const uint8_t* block, int64_t row, uint8_t* header) {
  pack_halves<2>(block, row, header);
  for (int u = 0; u < 4; ++u) {
    const codec::ScaleMin a = codec::unpack_scale_min(block + 4, u), b = codec::unpack_scale_min(block + 4, u + 4);
    const int64_t i = u * kR + row;
    header[kLow + i] = static_cast<uint8_t>((a.scale & 15) | (a.min & 15) << 4);
    header[kLow + 4 * kR + i] = static_cast<uint8_t>((b.scale & 15) | (b.min & 15) << 4);
    header[kTop + i] = static_cast<uint8_t>(a.scale >> 4 | (b.scale >> 4) << 2 | (a.min >> 4) << 4 | (b.min >> 4) << 6);
  }
}
codec::ScaleMin k_scale_min(const uint8_t* header, int64_t unit, int64_t row) {
  const int64_t i = unit % 4 * kR + row;
  const uint8_t low = header[kLow + unit / 4 * 4 * kR + i], top = header[kTop + i];
  const int shift = unit < 4 ? 0 : 2;
  return {(low & 15) | (top >> shift & 3) << 4, (low >> 4) | (top >> (4 + shift) & 3) << 4};
}
void unpack_k_header(const uint8_t* header, int64_t row, uint8_t* block) {
  unpack_halves<2>(header, row, block);
  std::memset(block + 4, 0, 12);
  for (int u = 0; u < 8; ++u) codec::pack_scale_min(block + 4, u, k_scale_min(header, u, row));
}
void k_scales(const uint8_t* header, int64_t unit, int64_t row, float* scale, float* minimum) {
  const codec::ScaleMin sm = k_scale_min(header, unit, row);
  scale[0] = scale[1] = half_at(header, row) * static_cast<float>(sm.scale);
  *minimum = -(half_at(header + 2 * kR, row) * static_cast<float>(sm.min));
}

// Q6_K: d[16], then scales [8 units][2][16].
void pack_q6_header(const uint8_t* block, int64_t row, uint8_t* header) {
  std::memcpy(header + 2 * row, block + 208, 2);
  for (int s = 0; s < 16; ++s) header[2 * kR + s * kR + row] = block[192 + s];
}
void unpack_q6_header(const uint8_t* header, int64_t row, uint8_t* block) {
  std::memcpy(block + 208, header + 2 * row, 2);
  for (int s = 0; s < 16; ++s) block[192 + s] = header[2 * kR + s * kR + row];
}
void q6_scales(const uint8_t* header, int64_t unit, int64_t row, float* scale, float*) {
  for (int64_t half = 0; half < 2; ++half) {
    const auto s = static_cast<int8_t>(header[2 * kR + (2 * unit + half) * kR + row]);
    scale[half] = half_at(header, row) * static_cast<float>(s);
  }
}

// Blocks with a zero point: the minimum is -(scale * zero), exact for a half scale and an integer zero.
float single_at(const uint8_t* singles, int64_t row) {
  float value;
  std::memcpy(&value, singles + 4 * row, 4);
  return value;
}
void pack_g4_header(const uint8_t* block, int64_t row, uint8_t* header) {
  pack_halves<1>(block, row, header);
  header[2 * kR + row] = block[2];
}
void unpack_g4_header(const uint8_t* header, int64_t row, uint8_t* block) {
  unpack_halves<1>(header, row, block);
  block[2] = header[2 * kR + row];
}
void g4_scales(const uint8_t* header, int64_t, int64_t row, float* scale, float* minimum) {
  scale[0] = scale[1] = half_at(header, row);
  *minimum = -(scale[0] * static_cast<float>(header[2 * kR + row]));
}
void pack_single(const uint8_t* block, int64_t row, uint8_t* header) { std::memcpy(header + 4 * row, block, 4); }
void unpack_single(const uint8_t* header, int64_t row, uint8_t* block) { std::memcpy(block, header + 4 * row, 4); }
void single_scale(const uint8_t* header, int64_t, int64_t row, float* scale, float*) {
  scale[0] = scale[1] = single_at(header, row);
}
void nf4_scales(const uint8_t* header, int64_t, int64_t row, float* scale, float*) {
  scale[0] = single_at(header, row) * codec::kNf4Steps[0];
  scale[1] = single_at(header, row) * codec::kNf4Steps[1];
}
void pack_g8_header(const uint8_t* block, int64_t row, uint8_t* header) {
  pack_single(block, row, header);
  std::memcpy(header + 4 * kR + 2 * row, block + 4, 2);
}
void unpack_g8_header(const uint8_t* header, int64_t row, uint8_t* block) {
  unpack_single(header, row, block);
  std::memcpy(block + 4, header + 4 * kR + 2 * row, 2);
}
void g8_scales(const uint8_t* header, int64_t, int64_t row, float* scale, float* minimum) {
  scale[0] = scale[1] = single_at(header, row);
  *minimum = -(scale[0] * (half_at(header + 4 * kR, row) - 128.0f));
}
template <int At>  // units one behind the other
void read_unit_nibbles(const uint8_t* block, int64_t unit, uint8_t* codes) {
  read_nibbles<At>(block + 16 * unit, 0, codes);
}
template <int At>
void write_unit_nibbles(const uint8_t* codes, int64_t unit, uint8_t* block) {
  write_nibbles<At>(codes, 0, block + 16 * unit);
}
template <int At, int Flip>
void read_unit_bytes(const uint8_t* block, int64_t unit, uint8_t* codes) {
  for (int k = 0; k < 32; ++k) codes[k] = block[At + 32 * unit + k] ^ Flip;
}
template <int At, int Flip>
void write_unit_bytes(const uint8_t* codes, int64_t unit, uint8_t* block) {
  for (int k = 0; k < 32; ++k) block[At + 32 * unit + k] = codes[k] ^ Flip;
}

// clang-format off
constexpr Codec g4_codec(int64_t columns) {
  return {{columns, 48, 256, 1, 0, true}, 3 + columns / 2, pack_g4_header, unpack_g4_header, read_unit_nibbles<3>,
          write_unit_nibbles<3>, put_nibbles, get_nibbles, g4_scales, nullptr};
}
constexpr Codec i8_codec(int64_t columns) {
  return {{columns, 64, 512, 1, 128, false}, 4 + columns, pack_single, unpack_single, read_unit_bytes<4, 0x80>,
          write_unit_bytes<4, 0x80>, put_bytes, get_bytes, single_scale, nullptr};
}
constexpr Codec kG4_32 = g4_codec(32), kG4_64 = g4_codec(64), kG4_128 = g4_codec(128);
constexpr Codec kI8_32 = i8_codec(32), kI8_128 = i8_codec(128);
constexpr Codec kG8_32{{32, 96, 512, 1, 128, true}, 38, pack_g8_header, unpack_g8_header, read_unit_bytes<6, 0>,
                       write_unit_bytes<6, 0>, put_bytes, get_bytes, g8_scales, nullptr};
constexpr Codec kQ4_0{{32, 32, 256, 1, 8, false}, 18, pack_halves<1>, unpack_halves<1>, read_nibbles<2>,
                      write_nibbles<2>, put_nibbles, get_nibbles, one_scale, nullptr};
constexpr Codec kQ4_1{{32, 64, 256, 1, 0, true}, 20, pack_halves<2>, unpack_halves<2>, read_nibbles<4>,
                      write_nibbles<4>, put_nibbles, get_nibbles, scale_and_minimum, nullptr};
constexpr Codec kQ5_0{{32, 32, 320, 1, 16, false}, 22, pack_halves<1>, unpack_halves<1>, read_five<2>,
                      write_five<2>, put_five, get_five, one_scale, nullptr};
constexpr Codec kQ5_1{{32, 64, 320, 1, 0, true}, 24, pack_halves<2>, unpack_halves<2>, read_five<4>,
                      write_five<4>, put_five, get_five, scale_and_minimum, nullptr};
constexpr Codec kQ8_0{{32, 32, 512, 1, 128, false}, 34, pack_halves<1>, unpack_halves<1>, read_signed_bytes,
                      write_signed_bytes, put_bytes, get_bytes, one_scale, nullptr};
constexpr Codec kQ4_K{{256, 256, 256, 1, 0, true}, 144, pack_k_header, unpack_k_header, read_k_nibbles<16>,
                      write_k_nibbles<16>, put_nibbles, get_nibbles, k_scales, nullptr};
constexpr Codec kQ5_K{{256, 256, 320, 1, 0, true}, 176, pack_k_header, unpack_k_header, read_q5_k,
                      write_q5_k, put_five, get_five, k_scales, nullptr};
constexpr Codec kQ6_K{{256, 288, 384, 2, 32, false}, 210, pack_q6_header, unpack_q6_header, read_q6_k,
                      write_q6_k, put_six, get_six, q6_scales, nullptr};
constexpr Codec kIq4Nl{{32, 32, 256, 1, 128, false}, 18, pack_halves<1>, unpack_halves<1>, read_nibbles<2>,
                       write_nibbles<2>, put_nibbles, get_nibbles, one_scale, codec::kIq4Levels};
constexpr Codec kMxfp4{{32, 16, 256, 1, 16, false}, 17, pack_e8m0, unpack_e8m0, read_nibbles<1>,
                       write_nibbles<1>, put_nibbles, get_nibbles, e8m0_scale, codec::kE2m1Doubled};
constexpr Codec kNf4{{64, 64, 256, 2, 128, false, 2}, 36, pack_single, unpack_single, read_unit_nibbles<4>,
                     write_unit_nibbles<4>, put_nibbles, get_nibbles, nf4_scales, codec::kNf4Planes[0]};
// clang-format on

const Codec* codec_of(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return &kQ4_0;
    case DType::q4_1:
      return &kQ4_1;
    case DType::q5_0:
      return &kQ5_0;
    case DType::q5_1:
      return &kQ5_1;
    case DType::q8_0:
      return &kQ8_0;
    case DType::q4_k:
      return &kQ4_K;
    case DType::q5_k:
      return &kQ5_K;
    case DType::q6_k:
      return &kQ6_K;
    case DType::iq4_nl:
      return &kIq4Nl;
    case DType::mxfp4:
      return &kMxfp4;
    case DType::g4_32:
      return &kG4_32;
    case DType::g4_64:
      return &kG4_64;
    case DType::g4_128:
      return &kG4_128;
    case DType::g8_32:
      return &kG8_32;
    case DType::i8_32:
      return &kI8_32;
    case DType::i8_128:
      return &kI8_128;
    case DType::nf4:
      return &kNf4;
    default:
      return nullptr;
  }
}

// A group of one type, by whole words of codes.
template <const Codec& C, void PackUnits(const uint8_t* block, int64_t row, uint8_t* units)>
void pack_rows(const uint8_t* from, int64_t row_stride, int64_t rows, int64_t cols, uint8_t* to) {
  const int64_t blocks = cols / C.shape.block_columns;
  constexpr int64_t kUnits = C.shape.block_columns / kPackedColumns;
  uint8_t* units = to + blocks * C.shape.header_bytes;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      const uint8_t* block = from + r * row_stride + b * C.stored_bytes;
      C.pack_header(block, r, to + b * C.shape.header_bytes);
      PackUnits(block, r, units + b * kUnits * C.shape.unit_bytes);
    }
  }
}

// Types of plain elements: `Bytes` of a row that lie together, four for FP8 (four columns) and bfloat16 (two).
void pack_plain(const uint8_t* in, int64_t row_stride, int64_t rows, int64_t row_bytes, uint8_t* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t at = 0; at < row_bytes; at += 4) std::memcpy(out + at * kR + 4 * r, in + r * row_stride + at, 4);
  }
}
// The same, a cache line of each row at a time, so that the lines written stay near.
void pack_plain_in_lines(const uint8_t* in, int64_t row_stride, int64_t rows, int64_t row_bytes, uint8_t* out) {
  for (int64_t line = 0; line < row_bytes; line += 64) {
    const int64_t end = std::min(row_bytes, line + 64);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t at = line; at < end; at += 4) std::memcpy(out + at * kR + 4 * r, in + r * row_stride + at, 4);
    }
  }
}
// `in`: at the first row's place.
void unpack_plain(const uint8_t* in, int64_t rows, int64_t row_bytes, uint8_t* out, int64_t row_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t at = 0; at < row_bytes; at += 4) std::memcpy(out + r * row_stride + at, in + at * kR + 4 * r, 4);
  }
}

}  // namespace

bool has_packed_codes(DType dtype) { return codec_of(dtype) != nullptr; }

PackedShape packed_shape(DType dtype) {
  REDOUBT_ASSERT(has_packed_codes(dtype));
  return codec_of(dtype)->shape;
}

bool can_pack(DType dtype, int64_t cols) {
  if (cols <= 0 || cols % kPackedColumns != 0) return false;
  if (dtype == DType::bf16 || dtype == DType::f8_e4m3) return true;
  const Codec* c = codec_of(dtype);
  return c != nullptr && cols % c->shape.block_columns == 0;
}

int64_t packed_group_bytes(DType dtype, int64_t cols) { return kPackedRows * row_bytes(dtype, cols); }

void pack_group_by_codes(DType dtype, const std::byte* in, int64_t row_stride, int64_t rows, int64_t cols,
                         std::byte* out) {
  const auto* from = reinterpret_cast<const uint8_t*>(in);
  auto* to = reinterpret_cast<uint8_t*>(out);
  if (rows < kR) std::memset(to, 0, static_cast<size_t>(packed_group_bytes(dtype, cols)));
  const Codec* c = codec_of(dtype);
  if (c == nullptr) return pack_plain(from, row_stride, rows, row_bytes(dtype, cols), to);
  const int64_t blocks = cols / c->shape.block_columns, units = c->shape.block_columns / kPackedColumns;
  uint8_t* codes_at = to + blocks * c->shape.header_bytes;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      const uint8_t* block = from + r * row_stride + b * c->stored_bytes;
      c->pack_header(block, r, to + b * c->shape.header_bytes);
      for (int64_t u = 0; u < units; ++u) {
        uint8_t codes[kPackedColumns];
        c->read_codes(block, u, codes);
        c->put(codes, r, codes_at + (b * units + u) * c->shape.unit_bytes);
      }
    }
  }
}

void pack_group(DType dtype, const std::byte* in, int64_t row_stride, int64_t rows, int64_t cols, std::byte* out) {
  const auto* from = reinterpret_cast<const uint8_t*>(in);
  auto* to = reinterpret_cast<uint8_t*>(out);
  if (rows < kR) std::memset(to, 0, static_cast<size_t>(packed_group_bytes(dtype, cols)));
  switch (dtype) {
    case DType::q4_0:
      return pack_rows<kQ4_0, packing::nibbles<2>>(from, row_stride, rows, cols, to);
    case DType::q4_1:
      return pack_rows<kQ4_1, packing::nibbles<4>>(from, row_stride, rows, cols, to);
    case DType::q5_0:
      return pack_rows<kQ5_0, packing::five<2>>(from, row_stride, rows, cols, to);
    case DType::q5_1:
      return pack_rows<kQ5_1, packing::five<4>>(from, row_stride, rows, cols, to);
    case DType::q8_0:
      return pack_rows<kQ8_0, packing::signed_bytes>(from, row_stride, rows, cols, to);
    case DType::q4_k:
      return pack_rows<kQ4_K, packing::q4_k>(from, row_stride, rows, cols, to);
    case DType::q5_k:
      return pack_rows<kQ5_K, packing::q5_k>(from, row_stride, rows, cols, to);
    case DType::q6_k:
      return pack_rows<kQ6_K, packing::q6_k>(from, row_stride, rows, cols, to);
    case DType::iq4_nl:
      return pack_rows<kIq4Nl, packing::nibbles<2>>(from, row_stride, rows, cols, to);
    case DType::mxfp4:
      return pack_rows<kMxfp4, packing::nibbles<1>>(from, row_stride, rows, cols, to);
    case DType::nf4:
      return pack_rows<kNf4, packing::nf4>(from, row_stride, rows, cols, to);
    default:
      if (has_packed_codes(dtype)) return pack_group_by_codes(dtype, in, row_stride, rows, cols, out);
      return pack_plain_in_lines(from, row_stride, rows, row_bytes(dtype, cols), to);
  }
}

void unpack_group(DType dtype, const std::byte* in, int64_t rows, int64_t cols, std::byte* out, int64_t row_stride,
                  int64_t first_row) {
  const auto* from = reinterpret_cast<const uint8_t*>(in);
  auto* to = reinterpret_cast<uint8_t*>(out);
  const Codec* c = codec_of(dtype);
  if (c == nullptr) return unpack_plain(from + 4 * first_row, rows, row_bytes(dtype, cols), to, row_stride);
  const int64_t blocks = cols / c->shape.block_columns, units = c->shape.block_columns / kPackedColumns;
  const uint8_t* codes_at = from + blocks * c->shape.header_bytes;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      uint8_t* block = to + r * row_stride + b * c->stored_bytes;
      c->unpack_header(from + b * c->shape.header_bytes, first_row + r, block);
      for (int64_t u = 0; u < units; ++u) {
        uint8_t codes[kPackedColumns];
        c->get(codes_at + (b * units + u) * c->shape.unit_bytes, first_row + r, codes);
        c->write_codes(codes, u, block);
      }
    }
  }
}

void unpack_rows(DType dtype, const std::byte* packed, int64_t begin, int64_t end, int64_t cols, std::byte* out) {
  const int64_t group_bytes = packed_group_bytes(dtype, cols), stride = row_bytes(dtype, cols);
  while (begin < end) {
    const int64_t group = begin / kR, first = begin % kR, rows = std::min(end - begin, kR - first);
    unpack_group(dtype, packed + group * group_bytes, rows, cols, out, stride, first);
    begin += rows;
    out += rows * stride;
  }
}

PackedUnit packed_unit(DType dtype, const std::byte* group, int64_t cols, int64_t unit) {
  REDOUBT_ASSERT(has_packed_codes(dtype));
  const Codec& c = *codec_of(dtype);
  const auto* from = reinterpret_cast<const uint8_t*>(group);
  const int64_t blocks = cols / c.shape.block_columns, units = c.shape.block_columns / kPackedColumns;
  const uint8_t* codes = from + blocks * c.shape.header_bytes + unit * c.shape.unit_bytes;
  const uint8_t* header = from + unit / units * c.shape.header_bytes;
  PackedUnit result{};
  for (int64_t r = 0; r < kPackedRows; ++r) {
    uint8_t raw[kPackedColumns];
    c.get(codes, r, raw);
    for (int plane = 0; plane < c.shape.planes; ++plane) {
      for (int64_t k = 0; k < kPackedColumns; ++k) {
        const int level = c.levels != nullptr ? c.levels[16 * plane + raw[k]] + c.shape.offset : raw[k];
        result.codes[plane][r][k] = static_cast<uint8_t>(level);
      }
    }
    float scale[2];
    c.scales(header, unit % units, r, scale, &result.minimum[r]);
    result.scale[0][r] = scale[0];
    result.scale[1][r] = scale[1];
  }
  return result;
}

}  // namespace redoubt
