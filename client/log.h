/*
 * log: the program's own messages, one line each. On stderr with the time while in the foreground,
 * in syslog (LOG_DAEMON; journald reads that) in the background, or in a file. Nothing that could
 * hold a credential is ever passed here.
 */
#ifndef CLIENT_LOG_H
#define CLIENT_LOG_H

#include "client/util.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_NOTICE, /* what whoever runs it wants to know: said by default, too */
	LOG_LEVEL_INFO,	  /* -v */
	LOG_LEVEL_DEBUG,  /* -vv */
};

struct log_options {
	enum log_level level;
	const char *file; /* NULL: stderr, then syslog */
	bool json;	  /* each line is an object: time, level, message */
	bool times;	  /* stderr's lines begin with the time */
};

/* Called once, before threads are started. 0, or -errno: the file can't be opened. */
int log_setup(const struct log_options *options);
/* From here on to syslog, unless there is a file. */
void log_to_background(void);

void log_write(enum log_level level, const char *format, ...) _printf_(2, 3);
void log_vwrite(enum log_level level, const char *format, va_list ap) _printf_(2, 0);

#define log_error(...)	log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)	log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
