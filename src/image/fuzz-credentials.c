/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "image/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autojson struct json *j = json_parse((const char *)data, size, 1 << 20, NULL);
	CLEANUP(registry_auth_done) struct registry_auth a = { 0 };
	CLEANUP(registry_auth_done) struct registry_auth b = { 0 };
	autofree char *helper = NULL;

	if (j)
		(void)credentials_find(j, "registry-1.docker.io", &a, &helper, NULL);
	(void)credentials_parse_reply((const char *)data, size, &b, NULL);
	return 0;
}
