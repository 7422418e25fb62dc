#include "formats/blocks.h"

#include "core/float_bits.h"
#include "formats/block_codecs.h"

namespace redoubt {
namespace {

template <class Integer>
void decode_integer(const uint8_t* in, float* out) {
  Integer value;
  std::memcpy(&value, in, sizeof value);
  *out = static_cast<float>(value);
}

codec::Decode decoder(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return [](const uint8_t* in, float* out) { std::memcpy(out, in, 4); };
    case DType::f16:
      return [](const uint8_t* in, float* out) { *out = codec::load_f16(in); };
    case DType::bf16:
      return [](const uint8_t* in, float* out) { *out = float_from_bf16(codec::load_u16(in)); };
    case DType::f64:
      return decode_integer<double>;
    case DType::f8_e4m3:
      return [](const uint8_t* in, float* out) { *out = float_from_e4m3(*in); };
    case DType::f8_e5m2:  // the upper byte of a half
      return [](const uint8_t* in, float* out) { *out = float_from_f16(static_cast<uint16_t>(*in << 8)); };
    case DType::f8_e8m0:
      return [](const uint8_t* in, float* out) {
        *out = *in == 255 ? std::bit_cast<float>(0x7fc00000u) : codec::half_e8m0(*in) * 2.0f;
      };
    case DType::i8:
      return decode_integer<int8_t>;
    case DType::u8:
      return decode_integer<uint8_t>;
    case DType::i16:
      return decode_integer<int16_t>;
    case DType::u16:
      return decode_integer<uint16_t>;
    case DType::i32:
      return decode_integer<int32_t>;
    case DType::u32:
      return decode_integer<uint32_t>;
    case DType::i64:
      return decode_integer<int64_t>;
    case DType::u64:
      return decode_integer<uint64_t>;
    case DType::boolean:
      return [](const uint8_t* in, float* out) { *out = *in != 0 ? 1.0f : 0.0f; };
    case DType::q4_0:
      return codec::decode_q4_0;
    case DType::q4_1:
      return codec::decode_q4_1;
    case DType::q5_0:
      return codec::decode_q5_0;
    case DType::q5_1:
      return codec::decode_q5_1;
    case DType::q8_0:
      return codec::decode_q8_0;
    case DType::q8_1:
      return codec::decode_q8_1;
    case DType::q2_k:
      return codec::decode_q2_k;
    case DType::q3_k:
      return codec::decode_q3_k;
    case DType::q4_k:
      return codec::decode_q4_k;
    case DType::q5_k:
      return codec::decode_q5_k;
    case DType::q6_k:
      return codec::decode_q6_k;
    case DType::q8_k:
      return codec::decode_q8_k;
    case DType::iq2_xxs:
      return codec::decode_iq2_xxs;
    case DType::iq2_xs:
      return codec::decode_iq2_xs;
    case DType::iq3_xxs:
      return codec::decode_iq3_xxs;
    case DType::iq1_s:
      return codec::decode_iq1_s;
    case DType::iq4_nl:
      return codec::decode_iq4_nl;
    case DType::iq3_s:
      return codec::decode_iq3_s;
    case DType::iq2_s:
      return codec::decode_iq2_s;
    case DType::iq4_xs:
      return codec::decode_iq4_xs;
    case DType::iq1_m:
      return codec::decode_iq1_m;
    case DType::tq1_0:
      return codec::decode_tq1_0;
    case DType::tq2_0:
      return codec::decode_tq2_0;
    case DType::mxfp4:
      return codec::decode_mxfp4;
    case DType::nvfp4:
      return codec::decode_nvfp4;
    case DType::g4_32:
      return codec::decode_g4_32;
    case DType::g4_64:
      return codec::decode_g4_64;
    case DType::g4_128:
      return codec::decode_g4_128;
    case DType::g8_32:
      return codec::decode_g8_32;
    case DType::i8_32:
      return codec::decode_i8_32;
    case DType::i8_128:
      return codec::decode_i8_128;
    case DType::nf4:
      return codec::decode_nf4;
  }
  return nullptr;
}

codec::Encode encoder(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return [](const float* in, uint8_t* out) { std::memcpy(out, in, 4); };
    case DType::f16:
      return [](const float* in, uint8_t* out) { codec::store_f16(out, *in); };
    case DType::bf16:
      return [](const float* in, uint8_t* out) { codec::store_u16(out, bf16_from_float(*in)); };
    case DType::f8_e4m3:
      return [](const float* in, uint8_t* out) { *out = e4m3_from_float(*in); };
    case DType::q4_0:
      return codec::encode_q4_0;
    case DType::q4_1:
      return codec::encode_q4_1;
    case DType::q5_0:
      return codec::encode_q5_0;
    case DType::q5_1:
      return codec::encode_q5_1;
    case DType::q8_0:
      return codec::encode_q8_0;
    case DType::q4_k:
      return codec::encode_q4_k;
    case DType::q5_k:
      return codec::encode_q5_k;
    case DType::q6_k:
      return codec::encode_q6_k;
    case DType::iq4_nl:
      return codec::encode_iq4_nl;
    case DType::mxfp4:
      return codec::encode_mxfp4;
    case DType::tq1_0:
      return codec::encode_tq1_0;
    case DType::tq2_0:
      return codec::encode_tq2_0;
    case DType::g4_32:
      return codec::encode_g4_32;
    case DType::g4_64:
      return codec::encode_g4_64;
    case DType::g4_128:
      return codec::encode_g4_128;
    case DType::g8_32:
      return codec::encode_g8_32;
    case DType::i8_32:
      return codec::encode_i8_32;
    case DType::i8_128:
      return codec::encode_i8_128;
    case DType::nf4:
      return codec::encode_nf4;
    default:
      return nullptr;
  }
}

// The types whose values stand alone, in one loop rather than a call a value.
bool decode_plain(DType dtype, const uint8_t* in, std::span<float> out) {
  switch (dtype) {
    case DType::f32:
      if (!out.empty()) std::memcpy(out.data(), in, out.size_bytes());
      return true;
    case DType::bf16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = float_from_bf16(codec::load_u16(in + 2 * i));
      return true;
    case DType::f16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = float_from_f16(codec::load_u16(in + 2 * i));
      return true;
    case DType::f8_e4m3:
      for (size_t i = 0; i < out.size(); ++i) out[i] = float_from_e4m3(in[i]);
      return true;
    default:
      return false;
  }
}

}  // namespace

bool can_decode(DType dtype) { return decoder(dtype) != nullptr; }
bool can_encode(DType dtype) { return encoder(dtype) != nullptr; }

void decode_row(DType dtype, const std::byte* in, std::span<float> out) {
  if (decode_plain(dtype, reinterpret_cast<const uint8_t*>(in), out)) return;
  const DTypeInfo& type = info(dtype);
  const codec::Decode decode = decoder(dtype);
  REDOUBT_ASSERT(decode != nullptr && out.size() % static_cast<size_t>(type.block_elems) == 0);
  const auto* bytes = reinterpret_cast<const uint8_t*>(in);
  for (size_t i = 0; i < out.size(); i += static_cast<size_t>(type.block_elems), bytes += type.block_bytes) {
    decode(bytes, out.data() + i);
  }
}

void encode_row(DType dtype, std::span<const float> in, std::byte* out) {
  const DTypeInfo& type = info(dtype);
  const codec::Encode encode = encoder(dtype);
  REDOUBT_ASSERT(encode != nullptr && in.size() % static_cast<size_t>(type.block_elems) == 0);
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  for (size_t i = 0; i < in.size(); i += static_cast<size_t>(type.block_elems), bytes += type.block_bytes) {
    encode(in.data() + i, bytes);
  }
}

}  // namespace redoubt
