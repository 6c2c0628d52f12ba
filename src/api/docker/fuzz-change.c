/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/change.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *text = xstrndup((const char *)data, size);
	autojson struct json *j = json_new_object();

	if (change_apply(j, text, NULL) == 0) {
		autofree char *out = json_format(j, false);
		(void)out;
	}
	return 0;
}
