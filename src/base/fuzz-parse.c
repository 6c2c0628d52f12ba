/* SPDX-License-Identifier: Apache-2.0 */
/* Times, durations, sizes and numbers: a time that was accepted is written and read as itself. */
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *s = xstrndup((const char *)data, size);
	char text[TIME_RFC3339_MAX];
	int64_t i, again;
	uint64_t u;
	double d;
	bool b;

	if (time_parse_rfc3339(s, &i) == 0) {
		time_format_rfc3339(i, text);
		assert(time_parse_rfc3339(text, &again) == 0 && again == i);
		time_format_rfc3339_fixed(i, text);
		assert(time_parse_rfc3339(text, &again) == 0 && again == i);
	}
	time_parse_duration(s, &i);
	time_parse_docker(s, 0, &i);
	if (parse_size(s, &i) == 0)
		assert(i >= 0);
	parse_int64(s, &i);
	parse_uint64(s, &u);
	parse_double(s, &d);
	parse_bool(s, &b);
	return 0;
}
