/*
 * metrics: what the mount counts, as Prometheus text (exposition format 0.0.4).
 */
#ifndef FS_DOTAPI_METRICS_H
#define FS_DOTAPI_METRICS_H

#include "fs/mount/mount.h"

/* 0 or -EFBIG. */
int metrics_show(struct mount *m, struct buf *out);

#endif
