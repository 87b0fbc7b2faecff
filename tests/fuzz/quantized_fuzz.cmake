if(TARGET tessera_model)
  tessera_fuzz_test(quantized_fuzz SOURCES quantized_fuzz.cc LIBS tessera_model
                    CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/quantized ITERATIONS 20000)
endif()
