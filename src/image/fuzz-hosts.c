/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "image/hosts.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autohosts struct registry_hosts h = REGISTRY_HOSTS_INIT;
	autofree char *text = xstrndup((const char *)data, size);

	if (hosts_parse((const char *)data, size, "docker.io", "/d", NULL, &h, NULL) == 0)
		assert(h.n > 0 && h.v[0].url && h.v[0].host);
	(void)hosts_insecure(text, NULL);
	hosts_default(text, NULL, &h);
	return 0;
}
