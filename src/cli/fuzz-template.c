/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template.h"

#include "base/mem.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char document[] =
		"{\"ID\":\"abc\",\"N\":3,\"L\":[\"a\",{\"b\":null}],\"M\":{\"x\":"
		"{\"y\":1.5}},\"T\":true}";
	autojson struct json *j = json_parse(document, strlen(document), sizeof(document), NULL);
	autofree char *text = xstrndup((const char *)data, size);
	autotemplate struct template *t = template_parse(text, NULL);
	autobuf struct buf out = BUF_INIT(65536);

	if (t)
		template_execute(t, j, NULL, &out, NULL);
	return 0;
}
