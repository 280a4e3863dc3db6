/*
 * yamltext: JSON text → YAML text, without a tree in between.
 *
 * The JSON is as jansson writes it with JSON_COMPACT: one value, no white space around or within
 * it, nothing escaped but \" \\ \b \f \n \r \t and the other control characters as \u00XX, UTF-8,
 * at most 512 levels. Nothing of that is checked here.
 *
 * The YAML is what libyaml's emitter made of the same (block style, indented by 2, lines of any
 * length; which text stands in quotes or as a literal block: yaml.h), byte for byte:
 * tests/unit/test_yamltext.c and tests/fuzz/fuzz_yamltext.c hold it to that.
 */
#ifndef CLIENT_YAMLTEXT_H
#define CLIENT_YAMLTEXT_H

#include "client/buf.h"

/* Appends the value. 0, or -EFBIG past the buf's maximum: then it stays as it was. */
int yamltext_show(const char *json, size_t len, struct buf *out);

/* How many bytes that is. */
uint64_t yamltext_size(const char *json, size_t len);

/* What a word means that stands in YAML without quotes. */
enum yaml_word {
	YAML_WORD_NONE,
	YAML_WORD_NULL,
	YAML_WORD_TRUE,
	YAML_WORD_FALSE,
	YAML_WORD_NO_JSON, /* infinity, NaN */
};

enum yaml_word yamltext_word(const char *text, size_t len);

#endif
