#include "client/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <syslog.h>

static enum log_level log_max = LOG_LEVEL_ERROR;
static atomic_bool log_syslog;

void log_setup(enum log_level level)
{
	log_max = level;
}

void log_to_syslog(void)
{
	openlog("imagestreamfs", LOG_PID, LOG_DAEMON);
	atomic_store(&log_syslog, true);
}

void log_write(enum log_level level, const char *format, ...)
{
	static const int priorities[] = {LOG_ERR, LOG_INFO, LOG_DEBUG};
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	if (level > log_max)
		return;
	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return;
	}
	for (char *p = text; *p; p++) /* one line each, whatever a server put into its answer */
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	if (atomic_load(&log_syslog))
		syslog(priorities[level], "%s", text);
	else
		fprintf(stderr, "imagestreamfs: %s\n", text);
}
