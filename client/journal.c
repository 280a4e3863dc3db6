#include "client/journal.h"

#include "client/clock.h"
#include "client/log.h"
#include "have.h"

#include <errno.h>
#include <pthread.h>

#define MESSAGE_MAX 4096 /* Strict errors quote the object, of any size */

struct journal {
	pthread_mutex_t lock;
	json_t *entries[JOURNAL_SIZE]; /* lock; oldest first */
	size_t n;		       /* lock */
	uint64_t count;		       /* lock */
};

struct journal *journal_new(void)
{
	struct journal *j = xcalloc(1, sizeof(*j));

	pthread_mutex_init(&j->lock, NULL);
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->n; i++)
		json_decref(j->entries[i]);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

#if HAVE_STRERRORNAME
static const char *errno_name(int error)
{
	return strerrorname_np(error);
}
#else
/* clang-format off */
#define ERRORS \
	X(EPERM) X(ENOENT) X(ESRCH) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(ENOEXEC) X(EBADF) \
	X(ECHILD) X(EAGAIN) X(ENOMEM) X(EACCES) X(EFAULT) X(ENOTBLK) X(EBUSY) X(EEXIST) \
	X(EXDEV) X(ENODEV) X(ENOTDIR) X(EISDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(ENOTTY) \
	X(ETXTBSY) X(EFBIG) X(ENOSPC) X(ESPIPE) X(EROFS) X(EMLINK) X(EPIPE) X(EDOM) X(ERANGE) \
	X(EDEADLK) X(ENAMETOOLONG) X(ENOLCK) X(ENOSYS) X(ENOTEMPTY) X(ELOOP) X(ENOMSG) \
	X(EIDRM) X(ECHRNG) X(EL2NSYNC) X(EL3HLT) X(EL3RST) X(ELNRNG) X(EUNATCH) X(ENOCSI) \
	X(EL2HLT) X(EBADE) X(EBADR) X(EXFULL) X(ENOANO) X(EBADRQC) X(EBADSLT) X(EBFONT) \
	X(ENOSTR) X(ENODATA) X(ETIME) X(ENOSR) X(ENONET) X(ENOPKG) X(EREMOTE) X(ENOLINK) \
	X(EADV) X(ESRMNT) X(ECOMM) X(EPROTO) X(EMULTIHOP) X(EDOTDOT) X(EBADMSG) X(EOVERFLOW) \
	X(ENOTUNIQ) X(EBADFD) X(EREMCHG) X(ELIBACC) X(ELIBBAD) X(ELIBSCN) X(ELIBMAX) \
	X(ELIBEXEC) X(EILSEQ) X(ERESTART) X(ESTRPIPE) X(EUSERS) X(ENOTSOCK) X(EDESTADDRREQ) \
	X(EMSGSIZE) X(EPROTOTYPE) X(ENOPROTOOPT) X(EPROTONOSUPPORT) X(ESOCKTNOSUPPORT) \
	X(EOPNOTSUPP) X(EPFNOSUPPORT) X(EAFNOSUPPORT) X(EADDRINUSE) X(EADDRNOTAVAIL) X(ENETDOWN) \
	X(ENETUNREACH) X(ENETRESET) X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS) X(EISCONN) \
	X(ENOTCONN) X(ESHUTDOWN) X(ETOOMANYREFS) X(ETIMEDOUT) X(ECONNREFUSED) X(EHOSTDOWN) \
	X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(ESTALE) X(EUCLEAN) X(ENOTNAM) X(ENAVAIL) \
	X(EISNAM) X(EREMOTEIO) X(EDQUOT) X(ENOMEDIUM) X(EMEDIUMTYPE) X(ECANCELED) X(ENOKEY) \
	X(EKEYEXPIRED) X(EKEYREVOKED) X(EKEYREJECTED) X(EOWNERDEAD) X(ENOTRECOVERABLE) \
	X(ERFKILL) X(EHWPOISON)
/* clang-format on */

static const char *errno_name(int error)
{
#define X(name) [name] = #name,
	static const char *const names[] = {ERRORS};
#undef X

	return error > 0 && (size_t)error < ARRAY_SIZE(names) ? names[error] : NULL;
}
#endif

static json_t *string_or_null(const char *s)
{
	json_t *string = s ? json_string(s) : NULL;

	return string ? string : json_null();
}

static bool same_failure(const json_t *a, const json_t *b)
{
	static const char *const keys[] = {"path", "request", "code", "errno", "message"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i])))
			return false;
	return true;
}

/*
 * Takes an entry out: the one that is the same failure, else the oldest where there is no room.
 * NULL: none.
 */
static json_t *take_out(struct journal *j, const json_t *entry)
{
	size_t i = j->n;
	json_t *old;

	while (i > 0 && !same_failure(j->entries[i - 1], entry))
		i--;
	if (i == 0 && j->n < JOURNAL_SIZE)
		return NULL;
	i = i ? i - 1 : 0;
	old = j->entries[i];
	memmove(&j->entries[i], &j->entries[i + 1], (--j->n - i) * sizeof(*j->entries));
	return old;
}

/* The failure happened before: how often by now, and when first. */
static void count_again(json_t *entry, const json_t *before)
{
	const json_t *count = json_object_get(before, "count"),
		     *first = json_object_get(before, "first");

	if (!first)
		first = json_object_get(before, "time");
	json_object_set_new(
		entry, "count", json_integer(count ? json_integer_value(count) + 1 : 2));
	json_object_set(entry, "first", (json_t *)first);
}

void journal_add(struct journal *j, const char *path, const char *request, long http_code,
	int error, const char *message)
{
	const char *name = errno_name(error);
	char time[RFC3339_SIZE];
	_cleanup_free_ char *text = str_shorten(message ? message : "", MESSAGE_MAX);
	json_t *entry, *old;

	log_info("%s%s%s%s%s", request ? request : "", request ? ": " : "", text,
		path ? " at " : "", path ? path : "");
	rfc3339_format(now_realtime(), time);
	entry = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "time", time, "path",
		string_or_null(path), "request", string_or_null(request), "code",
		http_code ? json_integer(http_code) : json_null(), "errno", string_or_null(name),
		"message", string_or_null(message ? text : NULL));
	pthread_mutex_lock(&j->lock);
	j->count++;
	old = take_out(j, entry);
	if (old && same_failure(old, entry))
		count_again(entry, old);
	j->entries[j->n++] = entry;
	pthread_mutex_unlock(&j->lock);
	json_decref(old);
}

void journal_show(struct journal *j, struct buf *b)
{
	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->n; i++)
		if (buf_addjson(b, j->entries[i], 0) == 0)
			buf_addstr(b, "\n");
	pthread_mutex_unlock(&j->lock);
}

uint64_t journal_count(struct journal *j)
{
	uint64_t count;

	pthread_mutex_lock(&j->lock);
	count = j->count;
	pthread_mutex_unlock(&j->lock);
	return count;
}

json_t *journal_last(struct journal *j)
{
	json_t *copy;

	pthread_mutex_lock(&j->lock);
	copy = j->n ? json_copy(j->entries[j->n - 1]) : NULL;
	pthread_mutex_unlock(&j->lock);
	return copy ? copy : json_null();
}
