if(TARGET tessera_convert)
  tessera_fuzz_test(request_fuzz SOURCES request_fuzz.cc LIBS tessera_convert CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/request_corpus
                    ITERATIONS 20000)
endif()
