/* A kubeconfig of any bytes gives credentials or one sentence. */
#include "fuzz.h"

#include "client/credentials.h"

#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
	_cleanup_free_ char *error = NULL;
	struct config_flags flags = {.kubeconfig = path};
	struct credentials *credentials = NULL;
	struct config *config = NULL;
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	r = config_load(&flags, &config, &error);
	if (r == 0)
		r = credentials_new(config, NULL, true, &credentials, &error);
	if ((r < 0) != (error != NULL) || (r < 0) != (credentials == NULL))
		abort();
	if (error && (!*error || strchr(error, '\n')))
		abort();
	credentials_unref(credentials);
	config_free(config);
	return 0;
}
