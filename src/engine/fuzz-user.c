/* SPDX-License-Identifier: Apache-2.0 */
/* Input: user specification, NUL, passwd, NUL, group. */
#include "base/mem.h"
#include "engine/user.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *spec = xstrndup((const char *)data, size);
	size_t at = MIN(size, strlen(spec) + 1);
	autofree char *passwd = xstrndup((const char *)data + at, size - at);
	size_t next = MIN(size, at + strlen(passwd) + 1);
	autofree char *group = xstrndup((const char *)data + next, size - next);
	const char *add[] = { "10", "wheel" };
	struct user_ids ids = { 0 };

	if (user_resolve_text(spec, passwd, group, add, 2, &ids, NULL) == 0) {
		if (ids.uid > 2147483647 || ids.n_groups > USER_GROUPS_MAX)
			abort();
		user_ids_done(&ids);
	}
	return 0;
}
