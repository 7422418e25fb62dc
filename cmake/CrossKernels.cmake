# What is built for another processor: the kernels with their tests, and of the folders below them only what they
# include. No library of that processor is needed: GoogleTest is built from Debian's sources, fmt is used as headers.

enable_language(C)  # GoogleTest's project asks for it
set(INSTALL_GTEST OFF)
add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)

# The host's folder of headers, without the rest of /usr/include.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include)
file(CREATE_LINK /usr/include/fmt ${CMAKE_BINARY_DIR}/include/fmt SYMBOLIC)
add_library(cross_fmt INTERFACE)
target_include_directories(cross_fmt INTERFACE ${CMAKE_BINARY_DIR}/include)
target_compile_definitions(cross_fmt INTERFACE FMT_HEADER_ONLY)
add_library(fmt::fmt ALIAS cross_fmt)

include(RedoubtBuild)
enable_testing()

add_library(redoubt_formats STATIC
  src/core/dtype.cpp src/formats/blocks.cpp src/formats/blocks_grouped.cpp src/formats/blocks_iq.cpp src/formats/blocks_k.cpp
  src/formats/blocks_simple.cpp src/formats/encode_k.cpp src/formats/encode_simple.cpp src/formats/iq_grids.cpp src/formats/packing.cpp)
target_link_libraries(redoubt_formats PUBLIC redoubt_flags fmt::fmt)
redoubt_test(packing_test SOURCES src/formats/packing_test.cpp DEPENDS redoubt_formats)
add_subdirectory(src/kernels)
