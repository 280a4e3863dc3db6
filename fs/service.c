#include "fs/service.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

void service_notify(const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int fd = -1;
	size_t len = path ? strlen(path) : 0;
	va_list ap;

	if (len < 2 || len >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	memcpy(address.sun_path, path, len);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* an abstract name */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !text ||
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			offsetof(struct sockaddr_un, sun_path) + len) < 0)
		return; /* whoever started us doesn't listen any more */
}
