#include "fs/options.h"

#include <errno.h>
#include <getopt.h>

#define DEFAULT_TIMEOUT_MS 10000
#define DURATION_MAX_MS	   (24 * 60 * 60 * 1000)

enum type {
	TYPE_STRING,
	TYPE_SECRET,
	TYPE_LIST,
	TYPE_FLAG,
	TYPE_DURATION_MS,
	TYPE_SECONDS,
	TYPE_NUMBER,
	TYPE_MODE,
	TYPE_VALIDATION
};

struct row {
	const char *name;
	char letter; /* 0: none */
	enum type type;
	size_t offset;
	const char *value, *help;
};

#define FIELD(f) offsetof(struct options, f)

static const struct row rows[] = {
	{"kubeconfig", 0, TYPE_STRING, FIELD(flags.kubeconfig), "FILE", "use this file only"},
	{"context", 0, TYPE_STRING, FIELD(flags.context), "NAME", "context of the kubeconfig"},
	{"cluster", 0, TYPE_STRING, FIELD(flags.cluster), "NAME", "cluster of the kubeconfig"},
	{"user", 0, TYPE_STRING, FIELD(flags.user), "NAME", "user of the kubeconfig"},
	{"server", 's', TYPE_STRING, FIELD(flags.server), "URL", "the API server"},
	{"token", 0, TYPE_SECRET, FIELD(flags.token), "TOKEN",
		"bearer token (a shell's history keeps it: prefer --token-file)"},
	{"token-file", 0, TYPE_STRING, FIELD(flags.token_file), "FILE",
		"file with the bearer token, read again while mounted"},
	{"certificate-authority", 0, TYPE_STRING, FIELD(flags.certificate_authority), "FILE",
		"CA to verify the server with"},
	{"client-certificate", 0, TYPE_STRING, FIELD(flags.client_certificate), "FILE",
		"TLS client certificate"},
	{"client-key", 0, TYPE_STRING, FIELD(flags.client_key), "FILE", "its key"},
	{"tls-server-name", 0, TYPE_STRING, FIELD(flags.tls_server_name), "NAME",
		"the name that the server's certificate is for"},
	{"insecure-skip-tls-verify", 0, TYPE_FLAG, FIELD(flags.insecure_skip_tls_verify), NULL,
		"don't verify the server's certificate"},
	{"as", 0, TYPE_STRING, FIELD(flags.as), "USER", "act as this user"},
	{"as-uid", 0, TYPE_STRING, FIELD(flags.as_uid), "UID", "and with this uid"},
	{"as-group", 0, TYPE_LIST, FIELD(flags.as_groups), "GROUP",
		"and in this group; repeatable"},
	{"namespace", 'n', TYPE_LIST, FIELD(namespaces), "NAME", "only this namespace; repeatable"},
	{"selector", 'l', TYPE_STRING, FIELD(selector), "SELECTOR",
		"only streams with such labels (app=web,tier!=db)"},
	{"uid", 0, TYPE_NUMBER, FIELD(uid), "UID", "whose the files are (yours)"},
	{"gid", 0, TYPE_NUMBER, FIELD(gid), "GID", "which group's the files are (yours)"},
	{"umask", 0, TYPE_MODE, FIELD(umask), "MASK", "what nobody may do with them (022)"},
	{"poll-interval", 0, TYPE_SECONDS, FIELD(poll_interval), "TIME",
		"between two lists of what can't be watched (60s)"},
	{"rights-interval", 0, TYPE_SECONDS, FIELD(rights_interval), "TIME",
		"between two looks at your rights (5m)"},
	{"confirm-interval", 0, TYPE_SECONDS, FIELD(confirm_interval), "TIME",
		"between two looks at what seems to be lost: three make it sure (30s)"},
	{"request-timeout", 0, TYPE_DURATION_MS, FIELD(request_timeout_ms), "TIME",
		"deadline of a request (10s)"},
	{"watch-timeout", 0, TYPE_SECONDS, FIELD(watch_timeout), "SECONDS",
		"how long one watch may last (300 to 600, at random)"},
	{"single-threaded", 0, TYPE_FLAG, FIELD(single_threaded), NULL,
		"one thread for the kernel's requests"},
	{"validate", 0, TYPE_VALIDATION, FIELD(validation), "MODE",
		"strict, warn or ignore: what the server does with fields that it doesn't know"},
	{"read-only", 0, TYPE_FLAG, FIELD(read_only), NULL, "nothing can be changed"},
	{"noevents", 0, TYPE_FLAG, FIELD(noevents), NULL,
		"no inotify events for changes made on the server"},
	{"noopen", 0, TYPE_FLAG, FIELD(noopen), NULL,
		"read-only, and the kernel opens files by itself: warm reads cost what tmpfs's "
		"cost"},
	{"nodelete", 0, TYPE_FLAG, FIELD(nodelete), NULL, "streams and tags can't be deleted"},
	{"auto_unmount", 0, TYPE_FLAG, FIELD(auto_unmount), NULL,
		"leave no dead mount behind, whatever ends the program"},
	{"foreground", 'f', TYPE_FLAG, FIELD(foreground), NULL, "stay in the foreground"},
	{"verbose", 'v', TYPE_FLAG, FIELD(verbosity), NULL, "say more; twice: each request"},
	{"version", 'V', TYPE_FLAG, FIELD(version), NULL, "print the version"},
	{"help", 'h', TYPE_FLAG, FIELD(help), NULL, "print this"},
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

		fprintf(out, "  %c%c%c %-30s %s\n", r->letter ? '-' : ' ',
			r->letter ? r->letter : ' ', r->letter ? ',' : ' ', name, r->help);
	}
	fputs("  -o OPTION[,OPTION...]              any of the long ones, or FUSE's\n", out);
}

/* "10s", "1500ms", "2m" or plain seconds, as kubectl takes it. */
static int parse_duration(const char *text, int *ret_ms)
{
	static const struct {
		const char *unit;
		int ms;
	} units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60000}};
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || n <= 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (streq(end, units[i].unit) && n <= DURATION_MAX_MS / units[i].ms) {
			*ret_ms = n * units[i].ms;
			return 0;
		}
	}
	return -EINVAL;
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

static int set(struct options *o, const struct row *r, char *value)
{
	void *field = (char *)o + r->offset;
	int ms, error = 0;

	switch (r->type) {
	case TYPE_STRING:
		*(const char **)field = value;
		break;
	case TYPE_SECRET:
		set_secret(o, field, value);
		break;
	case TYPE_LIST:
		return append(field, r->name, value);
	case TYPE_FLAG:
		if (r->offset == FIELD(verbosity))
			o->verbosity++;
		else
			*(bool *)field = true;
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
	case TYPE_DURATION_MS:
		error = parse_duration(value, field);
		break;
	case TYPE_SECONDS:
		error = parse_duration(value, &ms);
		*(int *)field = error ? 0 : (ms + 999) / 1000;
		break;
	}
	if (error)
		fprintf(stderr, "imagestreamfs: --%s: %s is no %s\n", r->name, value,
			r->type == TYPE_VALIDATION ? "validation: strict, warn or ignore"
			: r->type == TYPE_NUMBER || r->type == TYPE_MODE ? "number"
									 : "duration");
	return error;
}

/* One item of -o: ours, or left to FUSE. */
static int set_mount_option(struct options *o, char *item)
{
	char *value = strchr(item, '=');
	size_t len = value ? (size_t)(value - item) : strlen(item);

	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		if (strlen(r->name) != len || strncmp(r->name, item, len) != 0)
			continue;
		if ((value != NULL) != (r->value != NULL)) {
			fprintf(stderr, "imagestreamfs: -o %s %s a value\n", r->name,
				r->value ? "needs" : "takes no");
			return -EINVAL;
		}
		return set(o, r, value ? value + 1 : item + len);
	}
	/* As fstab says it. The kernel's own would keep announcements away, too. */
	if (streq(item, "ro")) {
		o->read_only = true;
		return 0;
	}
	/* The program holds everybody to the mode bits; the kernel would keep the announcer out. */
	if (streq(item, "default_permissions"))
		return 0;
	if (streq(item, "allow_other"))
		o->allow_other = true;
	fuse_opt_add_arg(&o->fuse, "-o");
	fuse_opt_add_arg(&o->fuse, item);
	return 0;
}

static int set_mount_options(struct options *o, char *list)
{
	char *item;
	int r = 0;

	while (r == 0 && (item = strsep(&list, ",")))
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

int options_parse(struct options *o, int argc, char *argv[])
{
	struct option long_options[ROWS + 1] = {0};
	char letters[2 * ROWS + 3] = "o:";
	int c, r = 0, index;
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

		long_options[i] = (struct option){
			rows[i].name, rows[i].value ? required_argument : no_argument, NULL, 0};
		if (rows[i].letter)
			snprintf(letters + n, sizeof(letters) - n, "%c%s", rows[i].letter,
				rows[i].value ? ":" : "");
	}
	while (r == 0 && (c = getopt_long(argc, argv, letters, long_options, &index)) != -1) {
		if (c == 'o') {
			r = set_mount_options(o, optarg);
		} else if (c == 0) {
			r = set(o, &rows[index], optarg ? optarg : none);
		} else if (c == '?') {
			r = -EINVAL; /* getopt has said why */
		} else {
			for (size_t i = 0; i < ROWS; i++)
				if (rows[i].letter == c)
					r = set(o, &rows[i], optarg ? optarg : none);
		}
	}
	if (r == 0 && o->noopen && o->allow_other && (o->umask & 0555)) {
		fputs("imagestreamfs: -o noopen and allow_other let everybody read everything: "
		      "such a umask would be in vain\n",
			stderr);
		r = -EINVAL;
	}
	if (r == 0 && !o->help && !o->version)
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
