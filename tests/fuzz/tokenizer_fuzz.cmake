if(TARGET tessera_text)
  tessera_fuzz_test(tokenizer_fuzz SOURCES tokenizer_fuzz.cc LIBS tessera_text
                    CORPUS ${CMAKE_SOURCE_DIR}/tests/fuzz/tokenizer_corpus ITERATIONS 5000)
endif()
