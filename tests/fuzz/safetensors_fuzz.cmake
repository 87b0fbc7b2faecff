if(TARGET tessera_model)
  tessera_fuzz_test(safetensors_fuzz SOURCES safetensors_fuzz.cc LIBS tessera_model
                    CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/safetensors ITERATIONS 20000)
endif()
