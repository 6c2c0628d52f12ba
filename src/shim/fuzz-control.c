/* SPDX-License-Identifier: Apache-2.0 */
/* What comes over the shim's socket and in its requests: attach lines, stdio URIs, runtime logs. */
#include "base/mem.h"
#include "rpc/attach-proto.h"
#include "shim/io-uri.h"
#include "shim/mountns.h"
#include "shim/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_line(const struct log_line *line UNUSED, void *arg)
{
	log_format_json(arg, line, "stdout", NULL);
	buf_clear(arg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(attach_request_done) struct attach_request r = { 0 };
	CLEANUP(io_uri_done) struct io_uri u = { 0 };
	autobuf struct buf out = BUF_INIT(LOG_FORMATTED_MAX);
	struct log_cutter c = { 0 };

	attach_request_parse((const char *)data, size, &r, NULL);
	autofree char *msg UNUSED = runtime_log_message((const char *)data, size);
	log_cutter_feed(&c, (const char *)data, size, 0, ignore_line, &out);
	log_cutter_end(&c, ignore_line, &out);

	autofree char *text = xstrndup((const char *)data, size);
	autofree char *point = NULL;
	io_uri_parse(text, &u, NULL);
	mountinfo_is_shared(text, 1, &point);
	return 0;
}
