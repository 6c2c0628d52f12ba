/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cdi.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autojson struct json *j = json_parse((const char *)data, size, 1 << 20, NULL);
	autojson struct json *spec = json_new_object();

	if (j && cdi_check(j, NULL) == 0)
		(void)cdi_edit(json_get(j, "containerEdits"), spec, NULL);
	autofree char *text = json_format(spec, /* pretty */ false);
	(void)cdi_name_valid(text);
	return 0;
}
