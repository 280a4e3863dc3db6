/* Where a device is mounted that somebody else has mounted. */
#include "fs/device.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define ROOT "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
#define FIRST                                                                                      \
	"30 21 0:40 / /mnt/first rw,nosuid - fuse.imagestreamfs prod rw,user_id=0,group_id=0\n"
#define PART  "31 21 0:41 /shop /mnt/part rw shared:7 master:1 - fuse.sshfs x rw,user_id=0\n"
#define ODD   "32 21 0:42 / /mnt/a\\040b\\134c rw - fuse.test none rw,user_id=0,group_id=0\n"
#define OTHER "34 21 0:44 / /tmp rw - tmpfs none rw\n"

static void finds(const char *text, int connection, const char *wanted)
{
	FILE *f = fmemopen((void *)text, strlen(text), "r");
	_cleanup_free_ char *found = device_find(f, connection);

	fclose(f);
	if (wanted)
		assert_string_equal(found, wanted);
	else
		assert_null(found);
}

static void test_by_number(void **state)
{
	finds(ROOT FIRST PART ODD OTHER, 40, "/mnt/first");
	finds(ROOT FIRST PART ODD OTHER, 42, "/mnt/a b\\c");
	finds(ROOT FIRST PART ODD OTHER, 41, NULL); /* a bind mount of a part */
	finds(ROOT FIRST PART ODD OTHER, 44, NULL); /* no FUSE */
	finds(ROOT FIRST PART ODD OTHER, 4, NULL);
}

static void test_the_newest(void **state)
{
	finds(ROOT FIRST PART ODD OTHER, -1, "/mnt/a b\\c");
	finds(ROOT FIRST PART OTHER, -1, "/mnt/first");
	finds(ROOT OTHER, -1, NULL);
	finds("nonsense\n - fuse.x\n", -1, NULL);
}

static void test_which_mountpoints_are_devices(void **state)
{
	static const char *const paths[] = {"/mnt", "/dev/fd/", "/dev/fd/x", "/dev/fd/3x",
		"/dev/fd/-1", "dev/fd/3", "/dev/fd/3/", ""};
	int fd = open("/dev/null", O_RDWR);
	_cleanup_free_ char *path = xasprintf("/dev/fd/%d", fd);

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_int_equal(device_open(paths[i]), -1);
	assert_int_equal(device_open(path), fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_false(device_is_fuse(fd));
	close(fd);
	assert_false(device_is_fuse(fd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_number),
		cmocka_unit_test(test_the_newest),
		cmocka_unit_test(test_which_mountpoints_are_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
