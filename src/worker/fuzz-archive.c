/* SPDX-License-Identifier: Apache-2.0 */
/* Image archives in memory. The first byte: whether a platform is wanted. */
#include "base/mem.h"
#include "oci/digest.h"
#include "tar/testing-tar.h"
#include "worker/archive.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_blob(const struct descriptor *d, int fd, void *arg, struct error *err)
{
	assert(digest_valid(d->digest) && d->size >= 0 && fd >= 0);
	return 0;
}

static int on_image(const struct strv *names, const struct descriptor *d, void *arg,
		    struct error *err)
{
	assert(digest_valid(d->digest));
	return 0;
}

static int feed(struct archive *a, struct tar *t, int event, const struct tar_data *d,
		struct error *err)
{
	switch (event) {
	case TAR_ENTRY:
		return archive_entry(a, tar_entry(t), err);
	case TAR_DATA:
		return archive_data(a, d->p, d->n, err);
	case TAR_ENTRY_END:
		return archive_entry_end(a, err);
	default:
		return event < 0 ? -1 : 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	CLEANUP(archive_freep) struct archive *a = archive_new(-1);
	CLEANUP(tar_freep) struct tar *t = tar_new();
	autoerror struct error err = ERROR_INIT, ignored = ERROR_INIT;
	autoplatform struct platform want = PLATFORM_INIT;
	struct archive_events events = { .blob = on_blob, .image = on_image };

	if (size < 1)
		return 0;
	assert(platform_parse("linux/amd64", &want, &err) == 0);
	autofree uint8_t *data = xmemdup(input, size);
	tar_fix_checksums(data + 1, size - 1);
	const uint8_t *p = data + 1;
	size_t n = size - 1;
	while (n > 0) {
		struct tar_data d = { 0 };
		if (feed(a, t, tar_next(t, &p, &n, &d, &ignored), &d, &ignored) < 0)
			return 0;
	}
	if (tar_finish(t, &ignored) < 0 || archive_entry_end(a, &ignored) < 0)
		return 0;
	archive_interpret(a, data[0] & 1 ? &want : NULL, &events, &err);
	return 0;
}
