/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip headers are parsed here: isa-l can do it, but it forgets the header's flags when one is
 * split between two inputs. isa-l then gets the deflate stream and the trailer, which it verifies.
 */

#include "worker/decompress.h"

#include "base/mem.h"

#include <assert.h>
#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>

#define SNIFF_BYTES 6
#define RATIO_FREE_BYTES (64ULL << 20)
#define XZ_MEMORY_MAX (256ULL << 20)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB, what every other client allows */

enum gzip_flag {
	GZIP_HCRC = 1 << 1,
	GZIP_EXTRA = 1 << 2,
	GZIP_NAME = 1 << 3,
	GZIP_COMMENT = 1 << 4
};

enum stage {
	STAGE_SNIFF,
	STAGE_PLAIN,
	/* a gzip member's header */
	STAGE_FIXED,
	STAGE_EXTRA_LEN,
	STAGE_EXTRA,
	STAGE_NAME,
	STAGE_COMMENT,
	STAGE_HCRC,
	STAGE_DEFLATE,
	/* zstd */
	STAGE_FRAME,
	STAGE_XZ,
	STAGE_XZ_END,
	STAGE_BZIP2,
	/* between members or frames */
	STAGE_BETWEEN,
	STAGE_PADDING,
};

struct decompress {
	struct decompress_limits limits;
	enum decompress_format format;
	enum stage stage;
	uint64_t total_in, total_out;
	/* Bytes that were looked at to sniff, now to be decoded. */
	uint8_t head[SNIFF_BYTES];
	size_t head_len, head_pos;
	/* gzip header */
	uint8_t fixed[10];
	unsigned count;
	unsigned flags;
	unsigned extra_len;

	struct inflate_state *inflate;
	ZSTD_DCtx *zstd;
	lzma_stream xz;
	bz_stream bzip2;
};

struct input {
	const uint8_t *p;
	size_t n;
};

struct decompress *decompress_new(const struct decompress_limits *limits)
{
	struct decompress *d = xnew(struct decompress);

	if (limits)
		d->limits = *limits;
	return d;
}

void decompress_free(struct decompress *d)
{
	if (!d)
		return;
	free(d->inflate);
	ZSTD_freeDCtx(d->zstd);
	lzma_end(&d->xz);
	BZ2_bzDecompressEnd(&d->bzip2);
	free(d);
}

enum decompress_format decompress_format(const struct decompress *d)
{
	return d->format;
}

const char *decompress_format_name(enum decompress_format format)
{
	static const char *const names[] = { "unknown", "plain", "gzip", "zstd", "xz", "bzip2" };

	return names[format];
}

static void start_member(struct decompress *d)
{
	isal_inflate_reset(d->inflate);
	d->inflate->crc_flag = ISAL_GZIP_NO_HDR_VER;
	d->inflate->hist_bits = 0;
	d->count = 0;
	d->stage = STAGE_FIXED;
}

static bool is_zstd(const uint8_t *p)
{
	static const uint8_t magic[] = { 0x28, 0xb5, 0x2f, 0xfd }, skip[] = { 0x2a, 0x4d, 0x18 };

	return memcmp(p, magic, 4) == 0 || ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, skip, 3) == 0);
}

static int begin_bzip2(struct decompress *d, struct error *err)
{
	d->bzip2 = (bz_stream){ 0 };
	if (BZ2_bzDecompressInit(&d->bzip2, /* verbosity= */ 0, /* small= */ 0) != BZ_OK)
		return error_set(err, ERROR_INTERNAL, "set up bzip2");
	d->stage = STAGE_BZIP2;
	return 0;
}

static int begin(struct decompress *d, struct error *err)
{
	switch (d->format) {
	case DECOMPRESS_GZIP:
		d->inflate = xmalloc(sizeof(*d->inflate));
		isal_inflate_init(d->inflate);
		start_member(d);
		return 0;
	case DECOMPRESS_ZSTD:
		d->zstd = ZSTD_createDCtx();
		if (!d->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
								    ZSTD_WINDOW_LOG_MAX)))
			return error_set(err, ERROR_INTERNAL, "set up zstd");
		d->stage = STAGE_FRAME;
		return 0;
	case DECOMPRESS_XZ:
		if (lzma_stream_decoder(&d->xz, XZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
			return error_set(err, ERROR_INTERNAL, "set up xz");
		d->stage = STAGE_XZ;
		return 0;
	case DECOMPRESS_BZIP2:
		return begin_bzip2(d, err);
	default:
		d->stage = STAGE_PLAIN;
		return 0;
	}
}

static enum decompress_format format_of(const uint8_t *head, size_t len, bool all)
{
	if (len >= 3 && memcmp(head, "\x1f\x8b\x08", 3) == 0)
		return DECOMPRESS_GZIP;
	if (len >= 4 && is_zstd(head))
		return DECOMPRESS_ZSTD;
	if (all && len >= 6 &&
	    memcmp(head,
		   "\xfd"
		   "7zXZ",
		   6) == 0)
		return DECOMPRESS_XZ;
	if (all && len >= 4 && memcmp(head, "BZh", 3) == 0 && head[3] >= '1' && head[3] <= '9')
		return DECOMPRESS_BZIP2;
	return DECOMPRESS_PLAIN;
}

static int sniff(struct decompress *d, struct input *in, bool eof, struct error *err)
{
	while (in->n > 0 && d->head_len < SNIFF_BYTES) {
		d->head[d->head_len++] = *in->p++;
		in->n--;
	}
	if (d->head_len < SNIFF_BYTES && !eof)
		return 0;
	d->format = format_of(d->head, d->head_len, d->limits.all_formats);
	return begin(d, err);
}

static void next_header_stage(struct decompress *d, enum stage after)
{
	static const struct {
		enum stage stage;
		unsigned flag;
	} order[] = {
		{ STAGE_EXTRA_LEN, GZIP_EXTRA },
		{ STAGE_NAME, GZIP_NAME },
		{ STAGE_COMMENT, GZIP_COMMENT },
		{ STAGE_HCRC, GZIP_HCRC },
	};

	d->count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (order[i].stage > after && d->flags & order[i].flag) {
			d->stage = order[i].stage;
			return;
		}
	}
	d->stage = STAGE_DEFLATE;
}

/* One byte of a gzip header. The header's own checksum guards nothing that matters: skipped. */
static int header_byte(struct decompress *d, uint8_t c, struct error *err)
{
	switch (d->stage) {
	case STAGE_FIXED:
		d->fixed[d->count++] = c;
		if (d->count < sizeof(d->fixed))
			return 0;
		if (d->fixed[0] != 0x1f || d->fixed[1] != 0x8b || d->fixed[2] != 8)
			return error_set(
				err, ERROR_DATA_LOSS,
				"corrupt gzip stream: bytes after the end are no gzip member");
		d->flags = d->fixed[3];
		if (d->flags & 0xe0)
			return error_set(err, ERROR_DATA_LOSS,
					 "corrupt gzip stream: unknown header flags 0x%02x",
					 d->flags);
		next_header_stage(d, STAGE_FIXED);
		return 0;
	case STAGE_EXTRA_LEN:
		d->extra_len = d->count == 0 ? c : d->extra_len | (unsigned)c << 8;
		if (++d->count == 2) {
			d->count = 0;
			d->stage = STAGE_EXTRA;
			if (d->extra_len == 0)
				next_header_stage(d, STAGE_EXTRA);
		}
		return 0;
	case STAGE_EXTRA:
		if (++d->count == d->extra_len)
			next_header_stage(d, STAGE_EXTRA);
		return 0;
	case STAGE_HCRC:
		if (++d->count == 2)
			next_header_stage(d, STAGE_HCRC);
		return 0;
	default:
		assert(d->stage == STAGE_NAME || d->stage == STAGE_COMMENT);
		if (c == 0)
			next_header_stage(d, d->stage);
		return 0;
	}
}

static int run_header(struct decompress *d, struct input *in, struct error *err)
{
	while (in->n > 0 && d->stage >= STAGE_FIXED && d->stage < STAGE_DEFLATE) {
		if (header_byte(d, *in->p, err) < 0)
			return -1;
		in->p++;
		in->n--;
	}
	return 0;
}

static const char *inflate_problem(int code)
{
	switch (code) {
	case ISAL_INVALID_BLOCK:
		return "invalid block";
	case ISAL_INVALID_SYMBOL:
		return "invalid symbol";
	case ISAL_INVALID_LOOKBACK:
		return "invalid distance";
	case ISAL_INCORRECT_CHECKSUM:
		return "checksum mismatch";
	default:
		return "invalid data";
	}
}

static int run_inflate(struct decompress *d, struct input *in, uint8_t *out, size_t room,
		       size_t *ret, struct error *err)
{
	struct inflate_state *s = d->inflate;
	uint32_t n_in = (uint32_t)MIN(in->n, (size_t)1 << 30);
	uint32_t n_out = (uint32_t)MIN(room, (size_t)1 << 30);

	s->next_in = (uint8_t *)in->p;
	s->avail_in = n_in;
	s->next_out = out;
	s->avail_out = n_out;
	int r = isal_inflate(s);
	if (r < 0)
		return error_set(err, ERROR_DATA_LOSS, "corrupt gzip stream: %s at offset %llu",
				 inflate_problem(r), (unsigned long long)d->total_in);
	in->p += n_in - s->avail_in;
	in->n -= n_in - s->avail_in;
	*ret = n_out - s->avail_out;
	if (s->block_state == ISAL_BLOCK_FINISH)
		d->stage = STAGE_BETWEEN;
	return 0;
}

static int run_zstd(struct decompress *d, struct input *in, uint8_t *out, size_t room, size_t *ret,
		    struct error *err)
{
	ZSTD_inBuffer zin = { .src = in->p, .size = in->n };
	ZSTD_outBuffer zout = { .dst = out, .size = room };

	size_t left = ZSTD_decompressStream(d->zstd, &zout, &zin);
	if (ZSTD_isError(left))
		return error_set(err, ERROR_DATA_LOSS, "corrupt zstd stream: %s at offset %llu",
				 ZSTD_getErrorName(left), (unsigned long long)d->total_in);
	in->p += zin.pos;
	in->n -= zin.pos;
	*ret = zout.pos;
	if (left == 0)
		d->stage = STAGE_BETWEEN;
	return 0;
}

/* eof lets xz see the end of the last of several streams. */
static int run_xz(struct decompress *d, struct input *in, bool eof, uint8_t *out, size_t room,
		  size_t *ret, struct error *err)
{
	d->xz.next_in = in->p;
	d->xz.avail_in = in->n;
	d->xz.next_out = out;
	d->xz.avail_out = room;
	lzma_ret r = lzma_code(&d->xz, eof ? LZMA_FINISH : LZMA_RUN);
	in->p = d->xz.next_in;
	in->n = d->xz.avail_in;
	*ret = room - d->xz.avail_out;
	if (r == LZMA_STREAM_END)
		d->stage = STAGE_XZ_END;
	if (r == LZMA_MEMLIMIT_ERROR)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "xz stream needs too much memory");
	/* LZMA_BUF_ERROR: no progress, which the caller sees for itself. */
	if (r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR)
		return error_set(err, ERROR_DATA_LOSS, "corrupt xz stream at offset %llu",
				 (unsigned long long)d->total_in);
	return 0;
}

static int run_bzip2(struct decompress *d, struct input *in, uint8_t *out, size_t room, size_t *ret,
		     struct error *err)
{
	unsigned n_in = (unsigned)MIN(in->n, (size_t)1 << 30);
	unsigned n_out = (unsigned)MIN(room, (size_t)1 << 30);

	d->bzip2.next_in = (char *)in->p;
	d->bzip2.avail_in = n_in;
	d->bzip2.next_out = (char *)out;
	d->bzip2.avail_out = n_out;
	int r = BZ2_bzDecompress(&d->bzip2);
	in->p += n_in - d->bzip2.avail_in;
	in->n -= n_in - d->bzip2.avail_in;
	*ret = n_out - d->bzip2.avail_out;
	if (r == BZ_STREAM_END) {
		BZ2_bzDecompressEnd(&d->bzip2);
		d->bzip2 = (bz_stream){ 0 };
		d->stage = STAGE_BETWEEN;
	} else if (r != BZ_OK) {
		return error_set(err, ERROR_DATA_LOSS, "corrupt bzip2 stream at offset %llu",
				 (unsigned long long)d->total_in);
	}
	return 0;
}

static int run_padding(struct input *in, struct error *err)
{
	while (in->n > 0) {
		if (*in->p != 0)
			return error_set(err, ERROR_DATA_LOSS,
					 "garbage after the end of the compressed stream");
		in->p++;
		in->n--;
	}
	return 0;
}

/* One step with what `in` has; moves on between stages without asking for more. */
static int step(struct decompress *d, struct input *in, bool eof, uint8_t *out, size_t room,
		size_t *ret, struct error *err)
{
	switch (d->stage) {
	case STAGE_PLAIN:
		*ret = MIN(in->n, room);
		memcpy(out, in->p, *ret);
		in->p += *ret;
		in->n -= *ret;
		return 0;
	case STAGE_DEFLATE:
		return run_inflate(d, in, out, room, ret, err);
	case STAGE_FRAME:
		return run_zstd(d, in, out, room, ret, err);
	case STAGE_XZ:
		return run_xz(d, in, eof, out, room, ret, err);
	case STAGE_BZIP2:
		return run_bzip2(d, in, out, room, ret, err);
	case STAGE_BETWEEN:
		if (in->n == 0)
			return 0;
		if (*in->p == 0)
			d->stage = STAGE_PADDING;
		else if (d->format == DECOMPRESS_GZIP)
			start_member(d);
		else if (d->format == DECOMPRESS_BZIP2)
			return begin_bzip2(d, err);
		else
			d->stage = STAGE_FRAME;
		return 0;
	case STAGE_XZ_END:
	case STAGE_PADDING:
		return run_padding(in, err);
	default:
		return run_header(d, in, err);
	}
}

static int check_limits(const struct decompress *d, struct error *err)
{
	const struct decompress_limits *l = &d->limits;

	if (l->max_bytes && d->total_out > l->max_bytes)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "uncompressed data exceeds the limit of %llu bytes",
				 (unsigned long long)l->max_bytes);
	if (l->max_ratio && d->total_out > RATIO_FREE_BYTES &&
	    d->total_out / l->max_ratio > d->total_in)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "data expands to more than %llu times its size",
				 (unsigned long long)l->max_ratio);
	return 0;
}

static int check_complete(const struct decompress *d, struct error *err)
{
	if (d->stage == STAGE_PLAIN || d->stage == STAGE_BETWEEN || d->stage == STAGE_PADDING ||
	    d->stage == STAGE_XZ_END)
		return 0;
	return error_set(err, ERROR_DATA_LOSS, "%s stream is truncated after %llu bytes",
			 decompress_format_name(d->format), (unsigned long long)d->total_in);
}

/* Steps until something came out or nothing goes in any more. */
static int run_input(struct decompress *d, struct input *in, bool eof, uint8_t *out, size_t room,
		     size_t *ret, struct error *err)
{
	for (;;) {
		size_t before = in->n;
		enum stage stage = d->stage;
		int r = step(d, in, eof, out, room, ret, err);
		d->total_in += before - in->n;
		d->total_out += *ret;
		if (r < 0)
			return -1;
		if (check_limits(d, err) < 0)
			return -1;
		if (*ret > 0 || (in->n == before && d->stage == stage))
			return 0;
	}
}

int decompress_run(struct decompress *d, const uint8_t **in, size_t *n, bool eof, uint8_t *out,
		   size_t room, size_t *ret, struct error *err)
{
	struct input rest = { .p = *in, .n = *n };
	int r = 0;

	assert(room > 0);
	*ret = 0;
	if (d->stage == STAGE_SNIFF)
		r = sniff(d, &rest, eof, err);
	if (r == 0 && d->stage != STAGE_SNIFF && d->head_pos < d->head_len) {
		struct input head = { .p = d->head + d->head_pos, .n = d->head_len - d->head_pos };
		r = run_input(d, &head, /* eof= */ false, out, room, ret, err);
		d->head_pos = d->head_len - head.n;
	}
	if (r == 0 && d->stage != STAGE_SNIFF && *ret == 0 && d->head_pos == d->head_len)
		r = run_input(d, &rest, eof, out, room, ret, err);
	*in = rest.p;
	*n = rest.n;
	if (r == 0 && eof && *ret == 0 && *n == 0)
		r = check_complete(d, err);
	return r;
}
