/* Runs a fuzzer's function on each file of a directory, where there is no libFuzzer. */
#include "fuzz.h"

#include "client/util.h"

#include <dirent.h>

#define INPUT_MAX ((size_t)4 << 20)

int main(int argc, char *argv[])
{
	DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
	const struct dirent *entry;
	size_t count = 0;

	if (!directory) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return EXIT_FAILURE;
	}
	while ((entry = readdir(directory))) {
		_cleanup_free_ char *path = xasprintf("%s/%s", argv[1], entry->d_name);
		_cleanup_free_ char *text = NULL;
		size_t len;

		if (entry->d_type == DT_DIR)
			continue;
		fprintf(stderr, "%s\n", path); /* the last one is the culprit */
		if (read_file(path, INPUT_MAX, &text, &len) < 0)
			return EXIT_FAILURE;
		LLVMFuzzerTestOneInput((const uint8_t *)text, len);
		count++;
	}
	closedir(directory);
	return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
