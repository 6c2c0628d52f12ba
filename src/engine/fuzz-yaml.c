/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/yaml.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autojson struct json *j = yaml_parse((const char *)data, size, NULL);
	autofree char *text = j ? json_format(j, /* pretty */ false) : NULL;

	(void)text;
	return 0;
}
