/*
 * fuzz: what each fuzzer defines (https://llvm.org/docs/LibFuzzer.html). It returns 0; what is
 * wrong ends the program, by a sanitizer or by abort().
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
