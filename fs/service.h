/*
 * service: what systemd is told of a Type=notify unit, by hand (sd_notify(3)): one datagram to
 * $NOTIFY_SOCKET.
 */
#ifndef FS_SERVICE_H
#define FS_SERVICE_H

#include "client/util.h"

/*
 * Sends the text ("READY=1", "STATUS=…", "STOPPING=1"; lines in one). Nothing happens where nobody
 * listens.
 */
void service_notify(const char *format, ...) _printf_(1, 2);

#endif
