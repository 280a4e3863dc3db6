/* A kubeconfig of any bytes gives a configuration or one sentence. */
#include "fuzz.h"

#include "client/config.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
	_cleanup_free_ char *error = NULL;
	struct config_flags flags = {.kubeconfig = path};
	struct config *config = NULL;
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	r = config_load(&flags, &config, &error);
	if ((r < 0) != (error != NULL) || (r < 0) != (config == NULL))
		abort();
	if (error && (!*error || strchr(error, '\n')))
		abort();
	config_free(config);
	return 0;
}
