/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/gzip.h"

#include "base/fs.h"
#include "base/mem.h"

#include <isa-l/igzip_lib.h>

#define OUT_SIZE (256 << 10)

struct gzip_sink {
	int fd;
	struct isal_zstream z;
	uint8_t *level, *out;
	struct digester *blob, *raw;
	int64_t size, raw_size;
};

struct gzip_sink *gzip_sink_new(int fd)
{
	struct gzip_sink *s = xnew(struct gzip_sink);

	s->fd = fd;
	s->level = xmalloc(ISAL_DEF_LVL1_DEFAULT);
	s->out = xmalloc(OUT_SIZE);
	s->blob = digester_new(NULL);
	s->raw = digester_new(NULL);
	isal_deflate_init(&s->z);
	s->z.level = 1;
	s->z.level_buf = s->level;
	s->z.level_buf_size = ISAL_DEF_LVL1_DEFAULT;
	s->z.gzip_flag = IGZIP_GZIP;
	s->z.next_out = s->out;
	s->z.avail_out = OUT_SIZE;
	return s;
}

void gzip_sink_free(struct gzip_sink *s)
{
	if (!s)
		return;
	digester_free(s->blob);
	digester_free(s->raw);
	free(s->level);
	free(s->out);
	free(s);
}

static int flush(struct gzip_sink *s, struct error *err)
{
	size_t n = OUT_SIZE - s->z.avail_out;
	int r = fs_write_all(s->fd, s->out, n);

	if (r < 0)
		return error_errno(err, -r, "write the layer");
	digester_update(s->blob, s->out, n);
	s->size += (int64_t)n;
	s->z.next_out = s->out;
	s->z.avail_out = OUT_SIZE;
	return 0;
}

static int deflate(struct gzip_sink *s, struct error *err)
{
	for (;;) {
		if (isal_deflate(&s->z) != COMP_OK)
			return error_set(err, ERROR_INTERNAL, "compress the layer");
		bool full = s->z.avail_out == 0;
		if (full && flush(s, err) < 0)
			return -1;
		if (!full && s->z.avail_in == 0)
			return 0;
	}
}

int gzip_sink_write(struct gzip_sink *s, const void *p, size_t n, struct error *err)
{
	digester_update(s->raw, p, n);
	s->raw_size += (int64_t)n;
	for (const uint8_t *at = p; n > 0;) {
		size_t step = MIN(n, (size_t)1 << 30);

		s->z.next_in = (uint8_t *)(uintptr_t)at;
		s->z.avail_in = (uint32_t)step;
		if (deflate(s, err) < 0)
			return -1;
		at += step;
		n -= step;
	}
	return 0;
}

int gzip_sink_finish(struct gzip_sink *s, struct error *err)
{
	s->z.end_of_stream = 1;
	s->z.avail_in = 0;
	do {
		if (deflate(s, err) < 0)
			return -1;
	} while (s->z.internal_state.state != ZSTATE_END);
	return flush(s, err);
}

void gzip_sink_result(const struct gzip_sink *s, char digest[DIGEST_MAX], char diff_id[DIGEST_MAX],
		      int64_t *ret_size, int64_t *ret_raw)
{
	digester_peek(s->blob, digest);
	digester_peek(s->raw, diff_id);
	*ret_size = s->size;
	*ret_raw = s->raw_size;
}
