/* The layout, tags' file names, and inode numbers. */
#include "client/map.h"
#include "fs/tree/layout.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Back from a file name to the tag: the escaping is reversible. */
static size_t unescape(const char *name, char ret[NAME_SIZE])
{
	size_t n = 0;

	if (streq(name, "%00"))
		return 0;
	while (*name) {
		unsigned byte = (unsigned char)*name;

		if (*name == '%') {
			assert_int_equal(sscanf(name + 1, "%2X", &byte), 1);
			name += 2;
		}
		name++;
		ret[n++] = byte;
	}
	return n;
}

/* The file name, which has to be one, and which has to lead back. */
static void escape(const char *tag, size_t len, char ret[NAME_SIZE])
{
	char back[NAME_SIZE];
	size_t back_len = 9999;

	assert_int_equal(layout_escape(tag, len, ret), 0);
	assert_in_range(strlen(ret), 1, 255);
	assert_true(ret[0] != '.');
	for (const char *p = ret; *p; p++)
		assert_true(*p != '/' && (unsigned char)*p >= 0x20 && *p != 0x7f);
	assert_int_equal(unescape(ret, back), len);
	assert_memory_equal(back, tag, len);
	memset(back, 'x', sizeof(back));
	assert_int_equal(layout_unescape(ret, back, &back_len), 0);
	assert_int_equal(back_len, len);
	assert_memory_equal(back, tag, len);
	assert_int_equal(back[len], '\0');
}

static void test_escape(void **state)
{
	static const struct {
		const char *tag;
		size_t len;
		const char *name;
	} rows[] = {
		{"latest", 6, "latest"},
		{"1.0", 3, "1.0"},
		{"a b:c@d\\~", 9, "a b:c@d\\~"},
		{"\xc3\xa4\xff", 3, "\xc3\xa4\xff"},
		{"", 0, "%00"},
		{".", 1, "%2E"},
		{"..", 2, "%2E."},
		{".api", 4, "%2Eapi"},
		{"a.", 2, "a."},
		{"a/b", 3, "a%2Fb"},
		{"/", 1, "%2F"},
		{"%", 1, "%25"},
		{"%2F", 3, "%252F"},
		{"%00", 3, "%2500"},
		{"a\0b", 3, "a%00b"},
		{"\0\0", 2, "%00%00"},
		{"\0a", 2, "%00a"},
		{"\n\t\x1f\x7f", 4, "%0A%09%1F%7F"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char name[NAME_SIZE];

		escape(rows[i].tag, rows[i].len, name);
		assert_string_equal(name, rows[i].name);
	}
}

static void test_escape_single_nul(void **state)
{
	char name[NAME_SIZE] = "untouched";

	assert_int_equal(layout_escape("\0", 1, name), -EINVAL);
	assert_string_equal(name, "untouched");
}

static void test_escape_length(void **state)
{
	static const struct {
		int plain, escaped; /* bytes of each sort */
		bool fits;
	} rows[] = {
		{254, 0, true},
		{255, 0, true},
		{256, 0, false},
		{1000, 0, false},
		{0, 85, true},
		{0, 86, false},
		{1, 85, false},
		{252, 1, true},
		{253, 1, false},
		{3, 84, true},
		{4, 84, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = rows[i].plain + rows[i].escaped;
		char tag[1024], name[NAME_SIZE] = "untouched";

		/* Whichever comes first. */
		for (int slashes_first = 0; slashes_first < 2; slashes_first++) {
			memset(tag, slashes_first ? '/' : 'a', len);
			if (slashes_first)
				memset(tag + rows[i].escaped, 'a', rows[i].plain);
			else
				memset(tag + rows[i].plain, '/', rows[i].escaped);
			if (rows[i].fits) {
				escape(tag, len, name);
				assert_int_equal(strlen(name), rows[i].plain + 3 * rows[i].escaped);
				strcpy(name, "untouched");
			} else {
				assert_int_equal(layout_escape(tag, len, name), -ENAMETOOLONG);
				assert_string_equal(name, "untouched");
			}
		}
	}
}

/* No two tags share a file name: all of one and two bytes, and the empty one. */
static void test_escape_injective(void **state)
{
	struct map seen = {0};
	char *names = xcalloc(1 + 256 + 65536, 8), *next = names;

	for (int i = -257; i < 65536; i++) {
		char tag[2] = {i < 0 ? i & 0xff : i >> 8, i & 0xff}, name[NAME_SIZE];
		size_t len = i >= 0 ? 2 : i == -257 ? 0 : 1;

		if (len == 1 && tag[0] == '\0')
			continue;
		escape(tag, len, name);
		assert_true(strlen(name) < 8);
		strcpy(next, name);
		if (map_set(&seen, next, next))
			fail_msg("twice: %s", next);
		next += 8;
	}
	assert_int_equal(seen.count, 1 + 255 + 65536);
	map_release(&seen);
	free(names);
}

static void test_escape_random(void **state)
{
	uint64_t hash = HASH_INIT;

	for (int round = 0; round < 20000; round++) {
		char tag[85], name[NAME_SIZE];
		size_t len = round % (sizeof(tag) + 1);

		for (size_t i = 0; i < len; i++) {
			hash = hash_bytes(hash, &round, sizeof(round));
			/* Often one of those that matter. */
			tag[i] = hash >> 63 ? (char)(hash >> 32) : "/%.\0\n0F2"[hash >> 40 & 7];
		}
		if (len == 1 && tag[0] == '\0')
			continue;
		escape(tag, len, name);
	}
}

static void refuse_name(const char *name)
{
	char tag[NAME_SIZE] = "untouched";
	size_t len = 4711;

	if (layout_unescape(name, tag, &len) != -EINVAL)
		fail_msg("a tag: %s", name);
	assert_string_equal(tag, "untouched");
	assert_int_equal(len, 4711);
}

/* A tag has one file name: what reads as one and isn't written like that names no tag. */
static void test_unescape_bad(void **state)
{
	static const char *const names[] = {"", ".", "..", ".api", "%", "a%", "%2", "a%2", "%%",
		"%2f", "%2G", "%G2", "%g0", "% 2", "%-1", "%+1", "%0x", "%41", "%61", "%2D", "a%2E",
		"a%2Eb", "%2E%2E", "%80", "%C3%A4", "a/b", "/", "\n", "a\x1f", "\x7f", "%00%",
		"%25%", NULL};
	static const char digits[] = "0123456789ABCDEF";

	for (const char *const *name = names; *name; name++)
		refuse_name(*name);
	for (int i = 0; i < 256; i++) {
		char name[] = {'a', '%', digits[i >> 4], digits[i & 15], '\0'}, tag[NAME_SIZE];
		bool escaped = i < 0x20 || i == 0x7f || i == '/' || i == '%';
		size_t len;

		if (!escaped) {
			refuse_name(name);
			continue;
		}
		assert_int_equal(layout_unescape(name, tag, &len), 0);
		assert_int_equal(len, 2);
		assert_int_equal((unsigned char)tag[1], i);
	}
}

static void test_unescape_length(void **state)
{
	char name[1024], tag[NAME_SIZE];
	size_t len;

	memset(name, 'a', sizeof(name));
	name[255] = '\0';
	assert_int_equal(layout_unescape(name, tag, &len), 0);
	assert_int_equal(len, 255);
	assert_string_equal(tag, name);
	name[255] = 'a';
	name[256] = '\0';
	refuse_name(name);
	name[256] = 'a';
	name[1023] = '\0';
	refuse_name(name);
	for (int i = 0; i < 85; i++)
		memcpy(name + 3 * i, "%2F", 3);
	name[255] = '\0';
	assert_int_equal(layout_unescape(name, tag, &len), 0);
	assert_int_equal(len, 85);
	strcpy(name + 255, "%2F");
	refuse_name(name);
	name[253] = '\0'; /* in the middle of an escape */
	refuse_name(name);
	name[254] = '\0';
	refuse_name(name);
}

static void test_child(void **state)
{
	static const struct {
		enum kind parent;
		const char *name;
		enum kind kind;
	} rows[] = {
		{KIND_ROOT, ".api", KIND_API},
		{KIND_API, "status.json", KIND_API_STATUS},
		{KIND_API, "errors", KIND_API_ERRORS},
		{KIND_NAMESPACE, ".api", KIND_NAMESPACE_API},
		{KIND_STREAM, ".api", KIND_STREAM_API},
		{KIND_STREAM_API, "events", KIND_STREAM_EVENTS},
		{KIND_STREAM_API, "delete", KIND_STREAM_DELETE},
		{KIND_NAMESPACE_API, "delete", KIND_NAMESPACE_DELETE},
		{KIND_TAG, ".api", KIND_TAG_API},
		{KIND_TAG_API, "import", KIND_TAG_IMPORT},
		{KIND_STREAM, "imagestream.json", KIND_IMAGESTREAM_JSON},
		{KIND_STREAM, "imagestream.yaml", KIND_IMAGESTREAM_YAML},
		{KIND_STREAM, "metadata.json", KIND_METADATA_JSON},
		{KIND_STREAM, "spec.json", KIND_SPEC_JSON},
		{KIND_STREAM, "status.json", KIND_STATUS_JSON},
		{KIND_STREAM, "tags", KIND_TAGS},
		{KIND_TAG, "spec.json", KIND_TAG_SPEC},
		{KIND_TAG, "status.json", KIND_TAG_STATUS},
		{KIND_TAG, "image", KIND_TAG_IMAGE},
		{KIND_ROOT, "shop", KIND_COUNT},
		{KIND_ROOT, "spec.json", KIND_COUNT},
		{KIND_ROOT, "", KIND_COUNT},
		{KIND_NAMESPACE, "tags", KIND_COUNT},
		{KIND_STREAM, "image", KIND_COUNT},
		{KIND_STREAM, "spec.jso", KIND_COUNT},
		{KIND_STREAM, "spec.json2", KIND_COUNT},
		{KIND_TAGS, "spec.json", KIND_COUNT},
		{KIND_TAG, "metadata.json", KIND_COUNT},
		{KIND_TAG_IMAGE, "image", KIND_COUNT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(layout_child(rows[i].parent, rows[i].name), rows[i].kind);
}

static void test_nodes(void **state)
{
	for (enum kind kind = KIND_ROOT; kind < KIND_SCRATCH; kind++) {
		const struct layout_row *node = &layout[kind];

		assert_true(layout_is_directory(node->parent));
		assert_int_equal(layout_is_hidden(kind), node->name && streq(node->name, ".api"));
		assert_int_equal(
			layout_is_api(kind), layout_is_hidden(kind) || layout_is_api(node->parent));
		if (node->name)
			assert_int_equal(layout_child(node->parent, node->name), kind);
		else
			assert_true(layout_is_directory(kind) || kind == KIND_SELECTED);
	}
	for (int i = 0; i < STREAM_FILES; i++) {
		assert_int_equal(layout[STREAM_FILE + i].parent, KIND_STREAM);
		assert_false(layout_is_directory(STREAM_FILE + i));
	}
	for (int i = 0; i < TAG_FILES; i++) {
		assert_int_equal(layout[TAG_FILE + i].parent, KIND_TAG);
		assert_false(layout_is_directory(TAG_FILE + i));
	}
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void test_ino(void **state)
{
	static const char *const uids[] = {"", "a", "ab", "abc", "u-1", "u-2"};
	static const char *const tags[] = {"", "a", "b", "bc", "c", "latest", "v1"};
	static uint64_t inos[ARRAY_SIZE(uids) * KIND_COUNT * ARRAY_SIZE(tags) * 20];
	size_t n = 0;

	for (size_t u = 0; u < ARRAY_SIZE(uids); u++)
		for (enum kind kind = KIND_ROOT; kind < KIND_COUNT; kind++)
			for (size_t t = 0; t < ARRAY_SIZE(tags); t++)
				for (unsigned born = 0; born < 20; born++) {
					uint64_t ino = layout_ino(uids[u], kind, tags[t], born);

					assert_true(ino > 1);
					assert_true(
						ino == layout_ino(uids[u], kind, tags[t], born));
					inos[n++] = ino;
				}
	assert_int_equal(n, ARRAY_SIZE(inos));
	qsort(inos, n, sizeof(inos[0]), compare);
	for (size_t i = 1; i < n; i++)
		assert_true(inos[i] != inos[i - 1]);
}

struct inos {
	pthread_t thread;
	uint64_t inos[5000];
};

static void *draw_inos(void *arg)
{
	struct inos *i = arg;

	for (size_t k = 0; k < ARRAY_SIZE(i->inos); k++)
		i->inos[k] = layout_new_ino();
	return NULL;
}

/* Never the same twice, whoever asks. */
static void test_new_ino(void **state)
{
	static struct inos threads[4];
	static uint64_t all[4 * ARRAY_SIZE(threads[0].inos)];
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(
			pthread_create(&threads[i].thread, NULL, draw_inos, &threads[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i].thread, NULL);
		for (size_t k = 0; k < ARRAY_SIZE(threads[i].inos); k++) {
			assert_true(threads[i].inos[k] > 1);
			all[n++] = threads[i].inos[k];
		}
	}
	qsort(all, n, sizeof(all[0]), compare);
	for (size_t i = 1; i < n; i++)
		assert_true(all[i] != all[i - 1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_escape_single_nul),
		cmocka_unit_test(test_escape_length),
		cmocka_unit_test(test_escape_injective),
		cmocka_unit_test(test_escape_random),
		cmocka_unit_test(test_unescape_bad),
		cmocka_unit_test(test_unescape_length),
		cmocka_unit_test(test_child),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_ino),
		cmocka_unit_test(test_new_ino),
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
