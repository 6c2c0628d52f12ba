/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/toml.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *j = toml_parse((const char *)data, size, 1 << 16, &err);

	assert(!j == (err.code != ERROR_OK));
	autofree char *text = json_format(j, false);

	return text == NULL;
}
