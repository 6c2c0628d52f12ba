/* SPDX-License-Identifier: Apache-2.0 */
/* What is accepted must survive being written and read again. */
#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *j = json_parse((const char *)data, size, 1 << 16, &err);

	assert(!j == (err.code != ERROR_OK));
	if (!j)
		return 0;
	autofree char *text = json_format(j, size % 2);
	autojson struct json *again = json_parse(text, strlen(text), 1 << 24, NULL);
	autofree char *same = json_format(again, size % 2);

	assert(again && strcmp(text, same) == 0);
	return 0;
}
