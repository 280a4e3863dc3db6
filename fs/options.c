#include "fs/options.h"

#include <errno.h>
#include <getopt.h>

#define DEFAULT_TIMEOUT_MS 10000
#define LONG_OPTIONS	   256 /* beyond the letters */
#define DURATION_MAX_MS	   (24 * 60 * 60 * 1000)

enum type {
	TYPE_STRING,
	TYPE_SECRET,
	TYPE_LIST,
	TYPE_NAMESPACES,
	TYPE_FLAG,
	TYPE_DURATION_MS,
	TYPE_SECONDS,
	TYPE_NUMBER,
	TYPE_MODE,
	TYPE_VALIDATION,
	TYPE_FORMAT,
	TYPE_COMPLETE,
	TYPE_HELP
};

struct row {
	const char *name;
	char letter;	   /* 0: none */
	const char *mount; /* its name after -o; NULL: the same */
	enum type type;
	size_t offset;
	const char *value;	/* what the argument is; NULL: none */
	const char *help, *man; /* man: mdoc(7) */
};

#define FIELD(f) offsetof(struct options, f)

/* All that is said of an option anywhere: --help, the completions made of that, the man page's list. */
static const struct row rows[] = {
	{"kubeconfig", 0, NULL, TYPE_STRING, FIELD(flags.kubeconfig), "FILE", "use this file only",
		"Use this file only, instead of those in\n"
		".Ev KUBECONFIG\n"
		"or\n"
		".Pa ~/.kube/config .\n"},
	/* SELinux has a context= of its own. */
	{"context", 0, "kubecontext", TYPE_STRING, FIELD(flags.context), "NAME",
		"context of the kubeconfig",
		"The context of the kubeconfig to use, instead of its current one.\n"},
	{"cluster", 0, NULL, TYPE_STRING, FIELD(flags.cluster), "NAME", "cluster of the kubeconfig",
		"The cluster of the kubeconfig to use.\n"},
	{"user", 0, NULL, TYPE_STRING, FIELD(flags.user), "NAME", "user of the kubeconfig",
		"The user of the kubeconfig to use.\n"},
	{"server", 's', NULL, TYPE_STRING, FIELD(flags.server), "URL", "the API server",
		"The API server.\n"},
	{"token", 0, NULL, TYPE_SECRET, FIELD(flags.token), "TOKEN",
		"bearer token (a shell's history keeps it: prefer --token-file)",
		"A bearer token.\n"
		"A shell's history keeps it: prefer\n"
		".Fl -token-file .\n"},
	{"token-file", 0, NULL, TYPE_STRING, FIELD(flags.token_file), "FILE",
		"file with the bearer token, read again while mounted",
		"A file with the bearer token, read again while mounted.\n"},
	{"certificate-authority", 0, NULL, TYPE_STRING, FIELD(flags.certificate_authority), "FILE",
		"CA to verify the server with",
		"The certificate authority to verify the server with.\n"},
	{"client-certificate", 0, NULL, TYPE_STRING, FIELD(flags.client_certificate), "FILE",
		"TLS client certificate", "A TLS client certificate.\n"},
	{"client-key", 0, NULL, TYPE_STRING, FIELD(flags.client_key), "FILE", "its key",
		"Its key.\n"},
	{"tls-server-name", 0, NULL, TYPE_STRING, FIELD(flags.tls_server_name), "NAME",
		"the name that the server's certificate is for",
		"The name that the server's certificate is for.\n"},
	{"insecure-skip-tls-verify", 0, NULL, TYPE_FLAG, FIELD(flags.insecure_skip_tls_verify),
		NULL, "don't verify the server's certificate",
		"Don't verify the server's certificate.\n"},
	{"as", 0, NULL, TYPE_STRING, FIELD(flags.as), "USER", "act as this user",
		"Act as this user.\n"},
	{"as-uid", 0, NULL, TYPE_STRING, FIELD(flags.as_uid), "UID", "and with this uid",
		"And with this uid.\n"},
	{"as-group", 0, NULL, TYPE_LIST, FIELD(flags.as_groups), "GROUP",
		"and in this group; repeatable", "And in this group; repeatable.\n"},
	{"namespace", 'n', NULL, TYPE_NAMESPACES, FIELD(namespaces), "NAME",
		"only this namespace; repeatable",
		"Mount this namespace only, and ask for no other; repeatable.\n"},
	{"selector", 'l', NULL, TYPE_STRING, FIELD(selector), "SELECTOR",
		"only streams with such labels (app=web,tier!=db)",
		"Show only the streams with such labels\n"
		".Pq Ql app=web,tier!=db .\n"},
	{"uid", 0, NULL, TYPE_NUMBER, FIELD(uid), "UID", "whose the files are (yours)",
		"Whose the files are; by default yours.\n"},
	{"gid", 0, NULL, TYPE_NUMBER, FIELD(gid), "GID", "which group's the files are (yours)",
		"Which group's the files are; by default yours.\n"},
	{"umask", 0, NULL, TYPE_MODE, FIELD(umask), "MASK", "what nobody may do with them (022)",
		"The permissions that nobody has, in octal; by default\n"
		".Ql 022 .\n"},
	{"log-file", 0, NULL, TYPE_STRING, FIELD(log_file), "FILE",
		"the program's messages go there, instead of stderr and syslog",
		"The program's messages go there, appended.\n"
		"See\n"
		".Sx LOGGING .\n"},
	{"log-format", 0, NULL, TYPE_FORMAT, FIELD(log_json), "text|json", "how they look (text)",
		"How they look:\n"
		".Ql text\n"
		"by default.\n"},
	{"fsname", 0, NULL, TYPE_STRING, FIELD(fsname), "NAME",
		"what mount and df call it (CONTEXT, or the server)",
		"What\n"
		".Xr mount 8\n"
		"and\n"
		".Xr df 1\n"
		"call it; by default the\n"
		".Ar CONTEXT\n"
		"where one is given, else the server's URL.\n"},
	{"max_read", 0, NULL, TYPE_NUMBER, FIELD(max_read), "BYTES",
		"the most that the kernel asks for in one read",
		"The most that the kernel asks for in one read.\n"},
	{"poll-interval", 0, NULL, TYPE_SECONDS, FIELD(poll_interval), "TIME",
		"between two lists of what can't be watched (60s)",
		"How long between two lists of what may be listed but not watched; by default\n"
		".Ql 60s .\n"},
	{"rights-interval", 0, NULL, TYPE_SECONDS, FIELD(rights_interval), "TIME",
		"between two looks at your rights (5m)",
		"How long between two looks at your rights, which the mode bits show; by default\n"
		".Ql 5m .\n"},
	{"confirm-interval", 0, NULL, TYPE_SECONDS, FIELD(confirm_interval), "TIME",
		"between two looks at what seems to be lost: three make it sure (30s)",
		"How long between two looks at what the server refuses of late, or doesn't list\n"
		"any more: three of them, with a review of the right after each, make it sure; by\n"
		"default\n"
		".Ql 30s .\n"
		"A shorter one takes away sooner what you lost, and asks for your rights more\n"
		"often.\n"},
	{"request-timeout", 0, NULL, TYPE_DURATION_MS, FIELD(request_timeout_ms), "TIME",
		"deadline of a request (10s)",
		"The deadline of a request: 10s, 1500ms, 1m30s or plain seconds; 0 is none.\n"
		"A start waits for at least 30 s for a server that says that it will be there\n"
		"soon.\n"},
	{"watch-timeout", 0, NULL, TYPE_SECONDS, FIELD(watch_timeout), "SECONDS",
		"how long one watch may last (300 to 600, at random)",
		"How long one watch may last; 300 to 600 s, at random, where it isn't given.\n"},
	{"single-threaded", 0, NULL, TYPE_FLAG, FIELD(single_threaded), NULL,
		"one thread for the kernel's requests", "One thread for the kernel's requests.\n"},
	{"max_threads", 0, NULL, TYPE_NUMBER, FIELD(max_threads), "N",
		"so many (1 on one or two processors, else 4)",
		"So many threads for the kernel's requests; by default 1 on one or two\n"
		"processors, else 4.\n"},
	{"validate", 0, NULL, TYPE_VALIDATION, FIELD(validation), "strict|warn|ignore",
		"what the server does with fields that it doesn't know (strict: refuses them)",
		"What the server does with fields that it doesn't know, as in\n"
		".Ic kubectl :\n"
		".Ql strict\n"
		"refuses them (the default),\n"
		".Ql warn\n"
		"and\n"
		".Ql ignore\n"
		"drop them.\n"},
	{"dry-run", 0, NULL, TYPE_FLAG, FIELD(dry_run), NULL,
		"the server checks what is written, and nothing is changed",
		"The server checks what is written, and nothing is changed: verdicts are the\n"
		"server's, and the files go on showing what it has.\n"
		"A server before Kubernetes 1.13 is asked nothing.\n"},
	{"read-only", 0, NULL, TYPE_FLAG, FIELD(read_only), NULL, "nothing can be changed",
		"Nothing can be changed.\n"
		"The mount table says so, too\n"
		".Pq Sy ro ,\n"
		"where root mounts it, and for others with\n"
		".Fl -noevents :\n"
		"without the right to it the kernel would raise no events.\n"},
	{"noevents", 0, NULL, TYPE_FLAG, FIELD(noevents), NULL,
		"no inotify events for changes made on the server",
		"No inotify events for changes made on the server, and no helper process; names\n"
		"may be a second old.\n"},
	{"noopen", 0, NULL, TYPE_FLAG, FIELD(noopen), NULL,
		"read-only, and the kernel opens files by itself: warm reads cost what tmpfs's "
		"cost",
		"Read-only, and the kernel opens files by itself: warm reads cost what they cost\n"
		"on tmpfs.\n"
		"For an ordinary user writing fails at the first write only, not at open; a\n"
		"large file that changes\n"
		"while it is read may mix versions, and\n"
		".Pa .api\n"
		"is absent.\n"},
	{"nodelete", 0, NULL, TYPE_FLAG, FIELD(nodelete), NULL, "streams and tags can't be deleted",
		"Streams and tags can't be deleted.\n"},
	{"auto_unmount", 0, NULL, TYPE_FLAG, FIELD(auto_unmount), NULL,
		"leave no dead mount behind, whatever ends the program",
		"Leave no dead mount behind, whatever ends the program.\n"},
	{"foreground", 'f', NULL, TYPE_FLAG, FIELD(foreground), NULL, "stay in the foreground",
		"Stay in the foreground.\n"},
	{"verbose", 'v', NULL, TYPE_FLAG, FIELD(verbosity), NULL, "say more; twice: each request",
		"Say more; twice: each request.\n"},
	{"complete", 0, NULL, TYPE_COMPLETE, FIELD(complete), "contexts|namespaces",
		"print those of the kubeconfig, and end",
		"Print those that the kubeconfig names, one a line, without a request, and end:\n"
		"for the completion of shells.\n"},
	{"version", 'V', NULL, TYPE_FLAG, FIELD(version), NULL, "print the version",
		"Print the version.\n"},
	{"help", 'h', NULL, TYPE_HELP, FIELD(help), NULL, "print this", "Print the options.\n"},
};

#define ROWS ARRAY_SIZE(rows)

void options_usage(FILE *out)
{
	fputs("usage: imagestreamfs [options] MOUNTPOINT\n"
	      "       imagestreamfs [options] CONTEXT MOUNTPOINT\n\n"
	      "Mounts the ImageStreams of an OpenShift cluster.\n\n",
		out);
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];
		_cleanup_free_ char *name = xasprintf(
			"--%s%s%s", r->name, r->value ? "=" : "", r->value ? r->value : "");

		fprintf(out, "  %c%c%c %-34s %s\n", r->letter ? '-' : ' ',
			r->letter ? r->letter : ' ', r->letter ? ',' : ' ', name, r->help);
	}
	fputs("  -o OPTION[,OPTION...]                  any of the long ones, or FUSE's\n", out);
}

void options_manual(FILE *out)
{
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		fputs(".It ", out);
		if (r->letter)
			fprintf(out, "Fl %c , ", r->letter);
		fprintf(out, "Fl -%s", r->name);
		if (r->value)
			fprintf(out, " Ns = Ns Ar %s", r->value);
		fprintf(out, "\n%s", r->man);
	}
}

/* "10s", "1500ms", "1m30s", "1.5h" as Go's durations; plain seconds; 0: no limit, which is a day. */
static int parse_duration(const char *text, int *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	const char *end;
	double sum = 0;

	for (const char *p = text; *p || p == text; p = end) {
		char *stop = NULL;
		double n = strtod(p, &stop); /* it takes 0x10 and 1e3, too */
		size_t i = 0, len;

		end = p + strspn(p, "0123456789.");
		if (end == p || end != stop)
			return -EINVAL;
		len = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		while (i < ARRAY_SIZE(units) &&
			(strlen(units[i].unit) != len || strncmp(units[i].unit, end, len) != 0))
			i++;
		if (len == 0 && p == text && !*end)
			i = 1;
		if (i == ARRAY_SIZE(units))
			return -EINVAL;
		sum += n * units[i].ms;
		end += len;
	}
	if (sum > DURATION_MAX_MS || (sum > 0 && sum < 1))
		return -EINVAL;
	*ret_ms = sum > 0 ? (int)sum : DURATION_MAX_MS;
	return 0;
}

/* As Go's flags: a flag alone is true. */
static int parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"", "1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (streq(text, yes[i])) {
			*ret = true;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (streq(text, no[i])) {
			*ret = false;
			return 0;
		}
	return -EINVAL;
}

static int parse_format(const char *text, bool *ret_json)
{
	if (!streq(text, "json") && !streq(text, "text"))
		return -EINVAL;
	*ret_json = streq(text, "json");
	return 0;
}

/* kubectl's words, and the API's: fieldValidation. */
static int parse_validation(const char *text, const char **ret)
{
	static const char *const words[][2] = {{"strict", "Strict"}, {"true", "Strict"},
		{"warn", "Warn"}, {"ignore", "Ignore"}, {"false", "Ignore"}};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (streq(text, words[i][0])) {
			*ret = words[i][1];
			return 0;
		}
	}
	return -EINVAL;
}

/* Digits only, up to that. */
static int parse_number(const char *text, int base, unsigned long max, long *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, base);

	if (*text < '0' || *text > '9' || *end || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

/* argv is there for everybody to read in /proc. */
static void set_secret(struct options *o, const char **field, char *value)
{
	if (o->token)
		explicit_bzero(o->token, strlen(o->token));
	free(o->token);
	*field = o->token = xstrdup(value);
	explicit_bzero(value, strlen(value));
}

static int append(json_t **list, const char *name, const char *value)
{
	if (!*list)
		*list = json_array();
	if (json_array_append_new(*list, json_string(value)) == 0)
		return 0;
	fprintf(stderr, "imagestreamfs: --%s: a value isn't UTF-8\n", name);
	return -EINVAL;
}

/* `dashes`: how it was given, "--" or "-o ". */
static int complain_of(const struct row *r, const char *dashes, const char *value)
{
	static const char *const kinds[] = {[TYPE_FLAG] = "neither true nor false",
		[TYPE_HELP] = "neither true nor false",
		[TYPE_DURATION_MS] = "no duration (10s, 1500ms, 1m30s)",
		[TYPE_SECONDS] = "no duration (10s, 1500ms, 1m30s)",
		[TYPE_NAMESPACES] = "no name of a namespace (a-z, 0-9 and -)",
		[TYPE_NUMBER] = "no number",
		[TYPE_MODE] = "no permissions in octal",
		[TYPE_VALIDATION] = "none of strict, warn and ignore",
		[TYPE_COMPLETE] = "neither contexts nor namespaces",
		[TYPE_FORMAT] = "neither text nor json"};

	fprintf(stderr, "imagestreamfs: %s%s: %s is %s; see imagestreamfs --help\n", dashes,
		r->name, *value ? value : "\"\"", kinds[r->type]);
	return -EINVAL;
}

/* `value` "": a flag alone. */
static int set(struct options *o, const struct row *r, const char *dashes, char *value)
{
	void *field = (char *)o + r->offset;
	bool on = false;
	int ms, error = 0;

	switch (r->type) {
	case TYPE_STRING:
		*(const char **)field = value;
		break;
	case TYPE_SECRET:
		set_secret(o, field, value);
		break;
	case TYPE_NAMESPACES:
		if (!str_is_dns_label(value)) {
			error = -EINVAL;
			break;
		}
		__attribute__((fallthrough));
	case TYPE_LIST:
		return append(field, r->name, value);
	case TYPE_FLAG:
		error = parse_bool(value, &on);
		if (error == 0 && r->offset == FIELD(verbosity))
			o->verbosity += on;
		else if (error == 0)
			*(bool *)field = on;
		break;
	case TYPE_HELP: /* --help=man is what the man page is made of */
		o->manual = streq(value, "man");
		error = o->manual ? 0 : parse_bool(value, field);
		break;
	case TYPE_NUMBER:
		error = parse_number(value, 10, UINT32_MAX - 1, field);
		break;
	case TYPE_MODE:
		error = parse_number(value, 8, 0777, field);
		break;
	case TYPE_VALIDATION:
		error = parse_validation(value, field);
		break;
	case TYPE_FORMAT:
		error = parse_format(value, field);
		break;
	case TYPE_COMPLETE:
		*(const char **)field = value;
		error = streq(value, "contexts") || streq(value, "namespaces") ? 0 : -EINVAL;
		break;
	case TYPE_DURATION_MS:
		error = parse_duration(value, field);
		break;
	case TYPE_SECONDS:
		error = parse_duration(value, &ms);
		*(int *)field = error ? 0 : (ms + 999) / 1000;
		break;
	}
	return error ? complain_of(r, dashes, value) : 0;
}

/* ---- -o ---- */

/* What libfuse, mount(8) and the kernel know; the value of those with '=' is passed on. */
static const char *const fuse_options[] = {"allow_other", "allow_root", "subtype=", "dev", "nodev",
	"suid", "nosuid", "exec", "noexec", "noatime", "async", "sync", "dirsync", "debug",
	"context=", "fscontext=", "defcontext=", "rootcontext="};

/* What mount(8) and fstab keep for themselves: x-systemd.automount, _netdev, noauto ... */
static bool is_for_mount(const char *item)
{
	static const char *const words[] = {"_netdev", "auto", "noauto", "user", "nouser", "users",
		"owner", "group", "nofail", "defaults", "default_permissions",
		/* reading moves no time here */
		"atime", "relatime", "norelatime", "diratime", "nodiratime", "strictatime",
		"nostrictatime", "lazytime", "nolazytime"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(item, words[i]))
			return true;
	return str_has_prefix(item, "x-") || str_has_prefix(item, "X-") ||
	       str_has_prefix(item, "comment=");
}

/* What would have the kernel or libfuse do something that the program does, or can't bear. */
static const char *why_refused(const char *item)
{
	static const char *const refused[][2] = {{"blkdev", "there is no block device"},
		{"fd=", "the program opens /dev/fuse itself"},
		{"rootmode=", "the program says it itself"},
		{"user_id=", "the program says it itself; uid= is whose the files are"},
		{"group_id=", "the program says it itself; gid= is which group's the files are"},
		{"clone_fd", "one descriptor is enough for its few threads"},
		{"max_idle_threads=", "threads that were made stay"},
		{"max_background=", "the kernel's own limit is used"},
		{"max_readahead=", "the kernel's own limit is used"},
		{"kernel_cache", "the kernel's caches are kept true by the watch"},
		{"auto_cache", "the kernel's caches are kept true by the watch"},
		{"direct_io", "the kernel's caches are kept true by the watch"},
		{"entry_timeout=", "the kernel's caches are kept true by the watch"},
		{"attr_timeout=", "the kernel's caches are kept true by the watch"},
		{"negative_timeout=", "the kernel's caches are kept true by the watch"},
		{"ac_attr_timeout=", "the kernel's caches are kept true by the watch"},
		{"noforget", "a file has its inode number as long as its object lives"},
		{"remember=", "a file has its inode number as long as its object lives"},
		{"modules=", "no other filesystem can be put on top of it"},
		{"blksize=", "there is no block device"},
		{"setuid=", "mount -t fuse.imagestreamfs does that: see mount.fuse3(8)"},
		{"nonempty", "a mount over anything is possible without it"},
		{"drop_privileges", "mount -t fuse.imagestreamfs does that: see mount.fuse3(8)"}};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (str_has_prefix(item, refused[i][0]))
			return refused[i][1];
	return NULL;
}

static bool is_fuse_option(const char *item)
{
	size_t len = strcspn(item, "=") + (strchr(item, '=') != NULL);

	for (size_t i = 0; i < ARRAY_SIZE(fuse_options); i++)
		if (strlen(fuse_options[i]) == len && strncmp(fuse_options[i], item, len) == 0)
			return true;
	return false;
}

/* libfuse splits at commas, too. */
static void pass_on(struct options *o, const char *item)
{
	_cleanup_free_ char *escaped = NULL;

	if (fuse_opt_add_opt_escaped(&escaped, item) < 0)
		abort(); /* out of memory */
	fuse_opt_add_arg(&o->fuse, "-o");
	fuse_opt_add_arg(&o->fuse, escaped);
}

static int left_to_others(struct options *o, const char *item)
{
	const char *why = why_refused(item);

	if (is_for_mount(item))
		return 0; /* the program holds everybody to the mode bits itself */
	if (why) {
		fprintf(stderr, "imagestreamfs: -o %s: %s\n", item, why);
		return -EINVAL;
	}
	if (!is_fuse_option(item)) {
		fprintf(stderr, "imagestreamfs: -o %s: no such option; see imagestreamfs --help\n",
			item);
		return -EINVAL;
	}
	if (streq(item, "allow_other") || streq(item, "allow_root"))
		o->allow_other = true;
	pass_on(o, item);
	return 0;
}

static bool is_named(const struct row *r, const char *item, size_t len)
{
	const char *name = r->mount ? r->mount : r->name;

	return strlen(name) == len && strncmp(name, item, len) == 0;
}

/* One item of -o: ours, or left to FUSE. */
static int set_mount_option(struct options *o, char *item)
{
	char *value = strchr(item, '=');
	size_t len = value ? (size_t)(value - item) : strlen(item);

	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		if (!is_named(r, item, len))
			continue;
		if (!value && is_for_mount(item))
			return 0; /* fstab's user, not the kubeconfig's */
		if (!value && r->value) {
			fprintf(stderr, "imagestreamfs: -o %s needs a value\n", item);
			return -EINVAL;
		}
		return set(o, r, "-o ", value ? value + 1 : item + len);
	}
	/* As fstab says it. The kernel's own would keep announcements away, too. */
	if (streq(item, "ro") || streq(item, "rw")) {
		o->ro = item[1] == 'o';
		return 0;
	}
	return left_to_others(o, item);
}

/* The next item of the list; "\," and "\\" are a comma and a backslash of its own. */
static char *next_item(char **list)
{
	char *item = *list, *out = item;

	if (!item)
		return NULL;
	for (char *p = item;; p++) {
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\')) {
			*out++ = *++p;
			continue;
		}
		if (*p == ',' || *p == '\0') {
			*list = *p ? p + 1 : NULL;
			*out = '\0';
			return item;
		}
		*out++ = *p;
	}
}

static int set_mount_options(struct options *o, char *list)
{
	char *item;
	int r = 0;

	while (r == 0 && (item = next_item(&list)))
		if (*item)
			r = set_mount_option(o, item);
	return r;
}

static int set_positional(struct options *o, int argc, char *argv[])
{
	if (argc == 2)
		o->flags.context = *argv++;
	if (argc < 1 || argc > 2) {
		fprintf(stderr, "imagestreamfs: %s; see imagestreamfs --help\n",
			argc < 1 ? "no mountpoint given" : "too many arguments");
		return -EINVAL;
	}
	o->mountpoint = *argv;
	return 0;
}

/* As oc takes it: -n=shop is -n shop. */
static char *short_value(char *value, char *none)
{
	if (!value)
		return none;
	return value[0] == '=' ? value + 1 : value;
}

static int complain_of_usage(char *argv[], bool lacks_value)
{
	const char *word = argv[optind - 1];

	if (optopt ==
		'=') { /* -f=true: getopt sees a cluster of letters; it is still at the word */
		fprintf(stderr,
			"imagestreamfs: %s: such a flag takes no value; see imagestreamfs --help\n",
			argv[optind]);
		return -EINVAL;
	}
	if (optopt && optopt < 128 && !str_has_prefix(word, "--"))
		fprintf(stderr, "imagestreamfs: -%c %s; see imagestreamfs --help\n", optopt,
			lacks_value ? "needs a value" : "is no option");
	else
		fprintf(stderr, "imagestreamfs: %.*s %s; see imagestreamfs --help\n",
			(int)strcspn(word, "="), word,
			lacks_value ? "needs a value" : "is no option");
	return -EINVAL;
}

static int complain_of_namespace(void)
{
	fputs("imagestreamfs: -N: it can't mount in another mount namespace\n", stderr);
	return -EINVAL;
}

/* mount(8) names nothing as we do: its -n, -s and -f are others. */
static int parse_helper(struct options *o, int argc, char *argv[])
{
	int c, r = 0;

	while (r == 0 && (c = getopt(argc, argv, ":sfnvN:o:t:")) != -1) {
		if (c == 'o')
			r = set_mount_options(o, optarg);
		else if (c == 'f')
			o->nothing = true;
		else if (c == 'v')
			o->verbosity++;
		else if (c == '?' || c == ':')
			r = complain_of_usage(argv, c == ':');
		else if (c == 'N')
			r = complain_of_namespace();
	}
	if (r == 0 && argc - optind != 2) {
		fputs("imagestreamfs: mount -t imagestreamfs CONTEXT MOUNTPOINT (none: the current "
		      "context)\n",
			stderr);
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	if (!streq(argv[optind], "none"))
		o->flags.context = argv[optind];
	o->mountpoint = argv[optind + 1];
	return 0;
}

static bool is_helper(const char *argv0)
{
	const char *slash = argv0 ? strrchr(argv0, '/') : NULL;

	return argv0 && streq(slash ? slash + 1 : argv0, MOUNT_HELPER);
}

static int check_together(struct options *o)
{
	o->read_only = o->read_only || o->ro;
	if (!o->noopen || !o->allow_other || !(o->umask & 0555))
		return 0;
	fputs("imagestreamfs: -o noopen and allow_other let everybody read everything: such a "
	      "umask would be in vain\n",
		stderr);
	return -EINVAL;
}

int options_parse(struct options *o, int argc, char *argv[])
{
	struct option long_options[ROWS + 1] = {0};
	char letters[2 * ROWS + 4] = ":o:";
	int c, r = 0;
	char none[] = "";

	*o = (struct options){.validation = "Strict",
		.request_timeout_ms = DEFAULT_TIMEOUT_MS,
		.poll_interval = 60,
		.rights_interval = 300,
		.confirm_interval = 30,
		.uid = getuid(),
		.gid = getgid(),
		.umask = 022};
	fuse_opt_add_arg(&o->fuse, "imagestreamfs");
	for (size_t i = 0; i < ROWS; i++) {
		size_t n = strlen(letters);

		long_options[i] = (struct option){rows[i].name,
			rows[i].value ? required_argument : optional_argument, NULL,
			LONG_OPTIONS +
				(int)i}; /* each its own, or --no would be the first of many */
		if (rows[i].letter)
			snprintf(letters + n, sizeof(letters) - n, "%c%s", rows[i].letter,
				rows[i].value ? ":" : "");
	}
	opterr = 0;
	if (is_helper(argv[0])) {
		r = parse_helper(o, argc, argv);
		return r < 0 ? r : check_together(o);
	}
	while (r == 0 && (c = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		if (c == 'o') {
			r = set_mount_options(o, optarg);
		} else if (c >= LONG_OPTIONS) {
			r = set(o, &rows[c - LONG_OPTIONS], "--", optarg ? optarg : none);
		} else if (c == '?' || c == ':') {
			r = complain_of_usage(argv, c == ':');
		} else {
			for (size_t i = 0; i < ROWS; i++)
				if (rows[i].letter == c)
					r = set(o, &rows[i], "--", short_value(optarg, none));
		}
	}
	if (r == 0)
		r = check_together(o);
	if (r == 0 && !o->help && !o->manual && !o->version && !o->complete)
		r = set_positional(o, argc - optind, argv + optind);
	return r;
}

void options_release(struct options *o)
{
	fuse_opt_free_args(&o->fuse);
	json_decref(o->namespaces);
	json_decref(o->flags.as_groups);
	if (o->token)
		explicit_bzero(o->token, strlen(o->token));
	free(o->token);
}
