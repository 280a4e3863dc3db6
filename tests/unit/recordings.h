/* The recordings of a real server, for tests of what it sends. After cmocka.h. */
#ifndef TESTS_UNIT_RECORDINGS_H
#define TESTS_UNIT_RECORDINGS_H

#include "client/util.h"

#include <dirent.h>

#define RECORDING_MAX ((size_t)64 << 20)

/* Each JSON text that begins a line. */
static void read_recording(const char *text, void (*check)(const json_t *))
{
	for (const char *p = text; p; p = strchr(p, '\n')) {
		_cleanup_json_ json_t *json = NULL;

		p += *p == '\n';
		if (*p != '{')
			continue;
		json = json_loads(p, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL);
		if (json)
			check(json);
	}
}

static inline void read_recordings(const char *directory, void (*check)(const json_t *))
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		_cleanup_free_ char *path = xasprintf("%s/%s", directory, entry->d_name),
				    *text = NULL;
		size_t len;

		if (read_file(path, RECORDING_MAX, &text, &len) == 0)
			read_recording(text, check);
	}
	closedir(dir);
}

#endif
