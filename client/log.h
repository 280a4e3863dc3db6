/*
 * log: the program's own messages, one line each. On stderr while in the foreground, in syslog
 * (LOG_DAEMON) afterwards. Nothing that could hold a credential is ever passed here.
 */
#ifndef CLIENT_LOG_H
#define CLIENT_LOG_H

#include "client/util.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_INFO,	 /* -v */
	LOG_LEVEL_DEBUG, /* -vv */
};

/* Called once, before threads are started. */
void log_setup(enum log_level level);
/* From here on to syslog. */
void log_to_syslog(void);

void log_write(enum log_level level, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
