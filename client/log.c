#include "client/log.h"

#include "client/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <syslog.h>

static struct log_options log_options = {.level = LOG_LEVEL_NOTICE};
static int log_fd = -1; /* of the file */
static atomic_bool log_syslog;

int log_setup(const struct log_options *options)
{
	log_options = *options;
	if (!options->file)
		return 0;
	log_fd = open(options->file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return log_fd < 0 ? -errno : 0;
}

void log_to_background(void)
{
	if (log_fd >= 0)
		return;
	openlog("imagestreamfs", LOG_PID, LOG_DAEMON);
	atomic_store(&log_syslog, true);
}

/* The line without its end. The caller frees. */
static char *format_line(enum log_level level, const char *text)
{
	static const char *const names[] = {"error", "notice", "info", "debug"};
	_cleanup_json_ json_t *object = NULL;
	char time[RFC3339_SIZE];

	rfc3339_format(now_realtime(), time);
	if (log_options.json) {
		object = json_pack(
			"{s:s, s:s, s:s}", "time", time, "level", names[level], "message", text);
		if (object)
			return json_dumps(object, JSON_COMPACT);
		object = json_pack("{s:s, s:s, s:s}", "time", time, "level", names[level],
			"message", "(a message that isn't UTF-8)");
		return json_dumps(object, JSON_COMPACT);
	}
	return log_fd >= 0 || log_options.times ? xasprintf("%s imagestreamfs: %s", time, text)
						: xasprintf("imagestreamfs: %s", text);
}

static void write_line(enum log_level level, const char *text)
{
	static const int priorities[] = {LOG_ERR, LOG_NOTICE, LOG_INFO, LOG_DEBUG};
	_cleanup_free_ char *line = format_line(level, text), *whole = NULL;

	if (atomic_load(&log_syslog)) {
		syslog(priorities[level], "%s", log_options.json ? line : text);
		return;
	}
	whole = xasprintf("%s\n", line); /* in one write: others may append to the file, too */
	if (write(log_fd >= 0 ? log_fd : STDERR_FILENO, whole, strlen(whole)) < 0)
		return; /* nobody can be told */
}

void log_vwrite(enum log_level level, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL;

	if (level > log_options.level)
		return;
	if (vasprintf(&text, format, ap) < 0) {
		text = NULL;
		return;
	}
	for (char *p = text; *p; p++) /* one line each, whatever a server put into its answer */
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	write_line(level, text);
}

void log_write(enum log_level level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vwrite(level, format, ap);
	va_end(ap);
}
