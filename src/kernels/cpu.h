// What the CPU we are running on offers, where the compiler has no name for it or several names belong together.
#pragma once

namespace redoubt::cpu {

#if defined(__x86_64__)
bool has_avx2();              // with FMA and F16C
bool has_avx512();            // F, BW, VL and DQ, beside has_avx2
bool has_avx_vnni();          // the form of VNNI that needs no AVX-512
bool adds_beside_products();  // with AVX-512: additions of integers have pipes that products do not need
bool has_amx();  // tiles of int8 and bfloat16; asks the kernel for their use, for all threads of this process
#elif defined(__aarch64__)
bool has_dotprod();
bool has_i8mm();
#endif

}  // namespace redoubt::cpu
