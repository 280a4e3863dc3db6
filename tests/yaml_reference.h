/* yaml_reference: how libyaml writes JSON, for what client/yamltext.c writes to be compared with. */
#ifndef TESTS_YAML_REFERENCE_H
#define TESTS_YAML_REFERENCE_H

#include "client/buf.h"

/* Appends the value. 0, or -EFBIG past the buf's maximum. */
int yaml_reference_show(const json_t *json, struct buf *out);

#endif
