if(TARGET tessera_model)
  tessera_fuzz_test(weight_cache_fuzz SOURCES weight_cache_fuzz.cc LIBS tessera_model
                    CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/weight_cache ITERATIONS 20000)
endif()
