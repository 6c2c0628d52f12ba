/* SPDX-License-Identifier: Apache-2.0 */
/* One filter a line: what parses is matched against an object with some fields. */
#include "base/mem.h"
#include "store/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *field(const void *object, const struct strv *path)
{
	if (str_equal(path->v[0], "labels"))
		return filter_label(object, path);
	return str_equal(path->v[0], "name") ? "docker.io/library/busybox:latest" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *text = xstrndup((const char *)data, size);
	autostrv struct strv texts = STRV_INIT;
	autokvs struct kvs labels = KVS_INIT;
	autoerror struct error err = ERROR_INIT;
	autofilter struct filter *f = NULL;

	strv_split(&texts, text, "\n");
	kvs_set(&labels, "a.b", "1");
	if (filter_parse(texts.v, texts.n, &f, &err) == 0)
		filter_match(f, field, &labels);
	return 0;
}
