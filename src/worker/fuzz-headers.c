/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: which header; the rest is its value. */
#include "base/mem.h"
#include "worker/headers.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void resolve(const char *location)
{
	autofree char *url = url_resolve("https://r.example:5000/v2/x/blobs/uploads/", location);
	autofree char *origin = url ? url_origin(url) : NULL;

	if (url)
		assert(origin && (url_is_https(url) || str_has_prefix(url, "http://")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *text = size ? xstrndup((const char *)data + 1, size - 1) : NULL;
	autofree char *out = NULL;
	int64_t a, b, c;

	if (!text)
		return 0;
	switch (data[0] % 6) {
	case 0:
		assert(header_retry_after(text, 0) >= 0);
		break;
	case 1:
		if (header_content_range(text, &a, &b, &c) == 0)
			assert(a <= b && (c < 0 || b < c));
		break;
	case 2:
		if (header_upload_range(text, &a) == 0)
			assert(a >= 0);
		break;
	case 3:
		out = header_link_next(text);
		break;
	case 4:
		resolve(text);
		break;
	case 5:
		text_clean(text, 20);
		assert(header_value_valid(text));
		break;
	}
	return 0;
}
