#include "fs/save/verdict.h"

#include <errno.h>

int verdict_errno(enum verdict_call call, int r)
{
	switch (call) {
	case VERDICT_PATH: /* the kernel runs a path call that answers ESTALE twice */
		return r == -ESTALE ? -EBUSY : r;
	case VERDICT_CLOSE: /* what the handle stands for is gone, and the handle stays */
		return r == -ENOENT ? -ESTALE : r;
	case VERDICT_FSYNC: /* Emacs takes EINVAL for a file that can't be synced */
		return r == -EINVAL ? -EIO : r;
	}
	return r;
}
