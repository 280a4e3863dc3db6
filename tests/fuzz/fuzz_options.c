/* A command line of any words, one a line, is taken or refused with one line. */
#include "fuzz.h"

#include "fs/options.h"

#include <getopt.h>

#define WORDS_MAX 64

/* What `parse` says on stderr. The caller frees. */
static char *parse(int argc, char *argv[], int *ret)
{
	FILE *said, *stderr_before = stderr;
	struct options o;
	char *text = NULL;
	size_t len = 0;

	said = open_memstream(&text, &len);
	if (!said)
		abort();
	stderr = said;
	optind = 0; /* getopt(3): begins anew */
	*ret = options_parse(&o, argc, argv);
	stderr = stderr_before;
	fclose(said);
	if (*ret == 0 && !o.help && !o.version && !o.complete && !o.mountpoint)
		abort();
	if (*ret == 0 &&
		(o.request_timeout_ms <= 0 || o.poll_interval <= 0 || o.rights_interval <= 0 ||
			o.confirm_interval <= 0 || o.watch_timeout < 0 || (o.umask & ~0777)))
		abort();
	options_release(&o);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *line = xstrndup((const char *)data, size);
	_cleanup_free_ char *said = NULL;
	char name[] = "imagestreamfs", *argv[WORDS_MAX + 1] = {name}, *word, *rest = line;
	int argc = 1, r;

	while (argc < WORDS_MAX && (word = strsep(&rest, "\n")))
		argv[argc++] = word;
	said = parse(argc, argv, &r);
	if ((r < 0) != (*said != '\0') || (*said && strchr(said, '\n') != said + strlen(said) - 1))
		abort();
	return 0;
}
