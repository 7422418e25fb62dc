# How every target of the project is built: warnings, sanitizers, ccache, and the two functions that make a folder of
# src/ a library and its *_test.cpp files a test binary.

find_program(REDOUBT_CCACHE ccache)
if(REDOUBT_CCACHE)
  # Paths relative to this checkout, so that two checkouts share one cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
                                  ${REDOUBT_CCACHE})
endif()
find_program(REDOUBT_MOLD mold)
if(REDOUBT_MOLD AND NOT CMAKE_CROSSCOMPILING)  # a cross-compiler finds its own linker only
  add_link_options(-fuse-ld=mold)
endif()

find_package(Threads REQUIRED)
include(CTest)
if(REDOUBT_TESTS AND NOT TARGET GTest::gmock)
  find_package(GTest REQUIRED)
endif()

add_library(redoubt_flags INTERFACE)
target_include_directories(redoubt_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
# -ffp-contract=off: a fused multiply-add appears only where an intrinsic asks for it, so that the same source gives the
# same bits wherever the compiler inlines it (docs/decisions/0002).
target_compile_options(redoubt_flags INTERFACE -Wall -Wextra -Werror -Wno-missing-field-initializers -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False alarms of GCC 12 to 14 in inlined standard-library code at -O2.
  target_compile_options(redoubt_flags INTERFACE -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow
                         -Wno-array-bounds -Wno-dangling-reference)
endif()
target_link_libraries(redoubt_flags INTERFACE Threads::Threads)

if(REDOUBT_SANITIZE STREQUAL "address")
  target_compile_options(redoubt_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                         -fno-omit-frame-pointer -g1)
  target_link_options(redoubt_flags INTERFACE -fsanitize=address,undefined)
elseif(REDOUBT_SANITIZE STREQUAL "thread")
  target_compile_options(redoubt_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer -g1)
  target_link_options(redoubt_flags INTERFACE -fsanitize=thread)
endif()
if(REDOUBT_FUZZ)
  target_compile_options(redoubt_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
                         -fno-sanitize-recover=undefined -fno-sanitize=function -g1)
  target_link_options(redoubt_flags INTERFACE -fsanitize=address,undefined)
endif()

# What a sanitizer build needs: the binaries of the tests labelled `sanitize`, and no more.
add_custom_target(sanitized_tests)

# redoubt_folder(core DEPENDS redoubt_formats fmt::fmt)
# Makes the library redoubt_NAME of the folder's *.cpp, and the test binary NAME_test of its *_test.cpp.
# Tests whose names contain "Real" (they need a real model) or "Heavy" do not run under a sanitizer.
function(redoubt_folder name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;TEST_DEPENDS;EXTRA_SOURCES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  list(APPEND sources ${ARG_EXTRA_SOURCES})
  add_library(redoubt_${name} STATIC ${sources})
  target_link_libraries(redoubt_${name} PUBLIC redoubt_flags ${ARG_DEPENDS})
  if(REDOUBT_TESTS AND tests)
    redoubt_test(${name}_test SOURCES ${tests} DEPENDS redoubt_${name} ${ARG_TEST_DEPENDS})
  endif()
endfunction()

# redoubt_test(NAME SOURCES a_test.cpp ... DEPENDS redoubt_core ...)  -- one test binary, one ctest entry.
function(redoubt_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name} PRIVATE REDOUBT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE redoubt_flags ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  add_dependencies(sanitized_tests ${name})
  if(REDOUBT_SANITIZE)
    add_test(NAME ${name} COMMAND ${name} --gtest_brief=1 --gtest_filter=-*Real*:*Heavy*)
  else()
    add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "unit;sanitize;${ARG_LABELS}")
  if(CMAKE_CROSSCOMPILING)  # the emulator has every extension: no kernel set is skipped
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "REDOUBT_EVERY_SET=1")
  endif()
endfunction()
