/* What an exec plugin prints is credentials or half a sentence. */
#include "fuzz.h"

#include "client/exec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *error = NULL;
	struct exec_answer answer = {0};
	int r = exec_answer_parse(
		(const char *)data, size, "client.authentication.k8s.io/v1", &answer, &error);

	if ((r < 0) != (error != NULL) || (r == 0 && !answer.token && !answer.key) ||
		!answer.certificate != !answer.key)
		abort();
	exec_answer_release(&answer);
	return 0;
}
