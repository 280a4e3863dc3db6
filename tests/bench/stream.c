/*
 * stream FILE ROUNDS TAG...: what an ImageStream costs, in CPU time. FILE holds one as a list has it.
 * A line of µs for each round, the works in turns:
 *   received  object_from_text, until it is freed
 *   jansson   its tree, made and freed by jansson
 *   pass      one look into a table for each byte, each after the other: a plain state machine
 *   sizes     a snapshot of it, and the attributes of all files
 *   shown     a snapshot, and the bytes of all files
 */
#include "client/clock.h"
#include "fs/tree/snapshot.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMES 500

static char *text, **tags;
static size_t len, ntags;
static struct object *object;
static struct indexes *indexes;
static volatile size_t looked_at;

static struct object *receive(void)
{
	struct object *o;

	if (object_from_text(text, len, "image.openshift.io/v1", &o, NULL) < 0)
		abort();
	return o;
}

static void received(void)
{
	object_unref(receive());
}

static void jansson(void)
{
	json_t *json = json_loadb(text, len, 0, NULL);

	if (!json)
		abort();
	json_decref(json);
}

static void pass(void)
{
	static unsigned char next[2][256]; /* in a string or not; no text here has escaped quotes */
	size_t count = 0;
	unsigned state = 0;

	if (!next[1]['a']) {
		memset(next[1], 1, sizeof next[1]);
		next[0]['"'] = 1;
		next[1]['"'] = 0;
	}
	for (size_t i = 0; i < len; i++) {
		state = next[state][(unsigned char)text[i]];
		count += state;
	}
	looked_at = count;
}

/* All files of a new snapshot. A tag needn't have each of its. */
static void with_files(int (*what)(struct snapshot *v, enum kind kind, const char *tag))
{
	struct snapshot *v = snapshot_new(object, NULL, NULL, 0, 0, indexes);
	int found = 0;

	for (int kind = STREAM_FILE; kind < STREAM_FILE + STREAM_FILES; kind++)
		found += what(v, (enum kind)kind, NULL) == 0;
	for (size_t i = 0; i < ntags; i++) {
		for (int kind = TAG_FILE; kind < TAG_FILE + TAG_FILES; kind++)
			found += what(v, (enum kind)kind, tags[i]) == 0;
	}
	if (found < STREAM_FILES + (int)ntags)
		abort();
	snapshot_unref(v);
}

static int size(struct snapshot *v, enum kind kind, const char *tag)
{
	struct layout_attr attr;

	return snapshot_attr(v, kind, tag, &attr);
}

static int show(struct snapshot *v, enum kind kind, const char *tag)
{
	struct buf out = BUF_INIT(ATTR_MAX);
	int r = snapshot_show(v, kind, tag, &out);

	buf_release(&out);
	return r;
}

static void sizes(void)
{
	with_files(size);
}

static void shown(void)
{
	with_files(show);
}

static double cpu_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int argc, char *argv[])
{
	void (*const works[])(void) = {received, jansson, pass, sizes, shown};

	if (argc < 3 || read_file(argv[1], SIZE_MAX - 1, &text, &len) < 0)
		return 2;
	tags = argv + 3;
	ntags = (size_t)argc - 3;
	object = receive();
	indexes = indexes_new(NULL);
	for (long round = strtol(argv[2], NULL, 10); round > 0; round--) {
		for (size_t work = 0; work < sizeof works / sizeof *works; work++) {
			double begin = cpu_us();

			for (int i = 0; i < TIMES; i++)
				works[work]();
			printf("%.3f ", (cpu_us() - begin) / TIMES);
		}
		puts("");
	}
	indexes_free(indexes);
	object_unref(object);
	free(text);
	return 0;
}
