/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autojson struct json *body = json_parse((const char *)data, size, 1 << 20, NULL);
	struct create_request c;

	if (body && create_request_parse(body, &c, NULL) == 0) {
		container_config_validate(&c.config, NULL);
		create_request_done(&c);
	}
	return 0;
}
