# Options shared by all our own targets, and the two helpers that declare tests.

add_library(tessera_options INTERFACE)
target_include_directories(tessera_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(tessera_options INTERFACE -Wall -Wextra -Werror -Wno-missing-field-initializers -fstack-protector-strong
                       # Results are a function of the arithmetic written down, not of the compiler's taste
                       -ffp-contract=off)
target_compile_definitions(tessera_options INTERFACE TESSERA_VERSION="${PROJECT_VERSION}")
if(TESSERA_SANITIZE)
  target_compile_options(tessera_options INTERFACE -fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all -g1
                         # GCC 12 sees uninitialised std::function members in instrumented std::regex
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(tessera_options INTERFACE -fsanitize=${TESSERA_SANITIZE})
  target_compile_definitions(tessera_options INTERFACE _GLIBCXX_ASSERTIONS)
else()
  target_compile_definitions(tessera_options INTERFACE $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
  target_link_options(tessera_options INTERFACE -Wl,-z,relro,-z,now)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Paths relative to the checkout, so that two build directories share results.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

# tessera_test(NAME LABEL label SOURCES a.cc b.cc LIBS lib... [TIMEOUT s]) : one GoogleTest binary, one CTest entry.
# Labels, which `make test` times one by one: unit, model, wire, fuzz.
function(tessera_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS;ARGS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE tessera_options ${ARG_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE TESSERA_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
