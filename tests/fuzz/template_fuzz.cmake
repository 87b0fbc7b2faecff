tessera_fuzz_test(template_fuzz SOURCES template_fuzz.cc LIBS tessera_text CORPUS ${CMAKE_SOURCE_DIR}/tests/text/data/chat
                  ITERATIONS 2000)
