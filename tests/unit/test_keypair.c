/* Certificates and keys that TLS can use, and those that would ask, crash or be refused. */
#include "tests/unit/pem.h"

#include "client/keypair.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_good(void **state)
{
	static const char *const rows[][2] = {
		{CERTIFICATE, KEY},
		{CERTIFICATE CERTIFICATE_2, KEY}, /* with its issuer's behind it */
		{"a comment\n" CERTIFICATE "another", "# a comment\n" KEY},
		{CERTIFICATE KEY, CERTIFICATE KEY}, /* one file, as the kubelet's */
		{KEY CERTIFICATE, KEY CERTIFICATE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *problem = NULL;
		bool of_key;

		if (keypair_check(rows[i][0], rows[i][1], &of_key, &problem) < 0)
			fail_msg("%zu: %s", i, problem);
		assert_null(problem);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *certificate, *key;
		int r;
		bool of_key;
		const char *problem;
	} rows[] = {
		{CERTIFICATE, ENCRYPTED_KEY, -EINVAL, true,
			"is encrypted, and a mount can't ask for its passphrase"},
		{CERTIFICATE, ENCRYPTED_KEY_OLD, -EINVAL, true,
			"is encrypted, and a mount can't ask for its passphrase"},
		{CERTIFICATE, KEY_2, -EINVAL, true, "doesn't belong to the certificate"},
		{CERTIFICATE_2, KEY, -EINVAL, true, "doesn't belong to the certificate"},
		{EXPIRED, KEY, -EKEYEXPIRED, false, "expired at 2021-02-03T04:05:06Z"},
		{EXPIRED, KEY_2, -EINVAL, true, "doesn't belong to the certificate"},
		{"", KEY, -EINVAL, false, "holds no whole PEM certificate"},
		{KEY, KEY, -EINVAL, false, "holds no whole PEM certificate"},
		{CERTIFICATE, "", -EINVAL, true, "holds no whole PEM key"},
		{CERTIFICATE, CERTIFICATE, -EINVAL, true, "holds no whole PEM key"},
		{CERTIFICATE "-----BEGIN CERTIFICATE-----\nMIIB", KEY, -EINVAL, false,
			"holds no whole PEM certificate"},
		{"-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n", KEY, -EINVAL,
			false, "holds no whole PEM certificate"},
		{CERTIFICATE, "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n",
			-EINVAL, true, "holds no whole PEM key"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *problem = NULL;
		bool of_key = !rows[i].of_key;

		assert_int_equal(keypair_check(rows[i].certificate, rows[i].key, &of_key, &problem),
			rows[i].r);
		if (!streq(problem, rows[i].problem) || of_key != rows[i].of_key)
			fail_msg("%zu: %s", i, problem);
	}
}

/* As a writer leaves them in between. Whatever is accepted is whole but for its last newline. */
static void test_in_part(void **state)
{
	for (size_t i = 0; i + 2 < strlen(KEY); i++) {
		_cleanup_free_ char *part = xstrndup(KEY, i), *problem = NULL;
		bool of_key;

		assert_int_equal(keypair_check(CERTIFICATE, part, &of_key, &problem), -EINVAL);
		assert_true(of_key);
	}
	for (size_t i = 0; i + 2 < strlen(CERTIFICATE); i++) {
		_cleanup_free_ char *part = xstrndup(CERTIFICATE, i), *problem = NULL;
		bool of_key;

		assert_int_equal(keypair_check(part, KEY, &of_key, &problem), -EINVAL);
		assert_false(of_key);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_in_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
