/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/jsonlog.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autobuf struct buf text = BUF_INIT(JSONLOG_LINE_MAX);
	struct log_line line;

	if (jsonlog_parse((const char *)data, size, &text, &line) == 0)
		assert(line.len <= size && line.data == text.data);
	return 0;
}
