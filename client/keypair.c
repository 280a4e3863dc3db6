#include "client/keypair.h"

#include "client/clock.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <time.h>

struct pair {
	X509 *certificate;
	EVP_PKEY *key;
};

/* OpenSSL asks for the passphrase of a key, and gets none. */
static int refuse_passphrase(char *buf, int size, int writing, void *arg)
{
	bool *asked = arg;

	*asked = true;
	return -1;
}

static BIO *open_text(const char *text)
{
	BIO *bio = BIO_new_mem_buf(text, -1);

	if (!bio)
		abort(); /* out of memory */
	return bio;
}

/* The text's end is an error to OpenSSL, too. */
static bool at_end(void)
{
	unsigned long error = ERR_peek_last_error();

	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/* The first certificate is ours; those behind it have to be whole, since they are sent, too. */
static const char *read_certificate(const char *text, X509 **ret)
{
	BIO *bio = open_text(text);
	X509 *next;
	bool whole;

	while ((next = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (*ret)
			X509_free(next);
		else
			*ret = next;
	}
	whole = at_end();
	BIO_free(bio);
	return *ret && whole ? NULL : "holds no whole PEM certificate";
}

static const char *read_key(const char *text, EVP_PKEY **ret)
{
	BIO *bio = open_text(text);
	bool asked = false;

	*ret = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	BIO_free(bio);
	if (*ret)
		return NULL;
	return asked ? "is encrypted, and a mount can't ask for its passphrase"
		     : "holds no whole PEM key";
}

static bool format_time(const ASN1_TIME *time, char *buf, size_t size)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time, &tm) == 1 && strftime(buf, size, "%FT%TZ", &tm) > 0;
}

static int check(const char *certificate, const char *key, struct pair *p, bool *ret_of_key,
	char **ret_problem)
{
	const char *problem = read_certificate(certificate, &p->certificate);
	char expired[RFC3339_SIZE];

	*ret_of_key = !problem;
	if (!problem)
		problem = read_key(key, &p->key);
	if (!problem && X509_check_private_key(p->certificate, p->key) != 1)
		problem = "doesn't belong to the certificate";
	if (problem) {
		*ret_problem = xstrdup(problem);
		return -EINVAL;
	}
	*ret_of_key = false;
	if (X509_cmp_current_time(X509_get0_notAfter(p->certificate)) >= 0)
		return 0;
	if (!format_time(X509_get0_notAfter(p->certificate), expired, sizeof(expired)))
		strcpy(expired, "?");
	*ret_problem = xasprintf("expired at %s", expired);
	return -EKEYEXPIRED;
}

int keypair_check(const char *certificate, const char *key, bool *ret_of_key, char **ret_problem)
{
	struct pair p = {0};
	int r;

	ERR_clear_error();
	r = check(certificate, key, &p, ret_of_key, ret_problem);
	ERR_clear_error(); /* libcurl must not take them for its own */
	X509_free(p.certificate);
	EVP_PKEY_free(p.key);
	return r;
}
