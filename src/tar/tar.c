/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state machine over 512-byte blocks. Headers that only describe the next one (x, L, K) are
 * collected in `meta`; when the real header comes, all is merged into `entry`. A file's stored
 * bytes run through the list of its segments; an ordinary file has one.
 */

#include "tar/tar.h"

#include "base/buf.h"
#include "base/mem.h"
#include "tar/tar-pax.h"

#include <assert.h>
#include <string.h>

#define BLOCK 512
#define OLD_SPARSE_IN_HEADER 4
#define OLD_SPARSE_IN_BLOCK 21
#define SIZE_MAX_STORED (INT64_MAX - BLOCK)

enum state {
	STATE_HEADER,
	STATE_META,	  /* the body of x, g, L or K */
	STATE_OLD_SPARSE, /* blocks that go on with the header's sparse map */
	STATE_NEW_SPARSE, /* blocks before the data that hold the sparse map, decimal */
	STATE_ENTRY,	  /* report it */
	STATE_DATA,
	STATE_ENTRY_END,
	STATE_PADDING,
	STATE_ONE_ZERO, /* one block of zeros was seen */
	STATE_END,
};

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag;
	char link[100], magic[8], uname[32], gname[32], major[8], minor[8];
	union {
		char prefix[155];
		struct {
			char atime[12], ctime[12], offset[12], longnames[4], unused;
			char sparse[OLD_SPARSE_IN_HEADER][24];
			char is_extended, real_size[12];
		} gnu;
	};
	char star_pad[8], star_magic[4];
};

static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

struct tar {
	enum state state;
	uint8_t block[BLOCK];
	size_t block_len;

	char meta_type;
	struct buf meta;
	int64_t meta_left;
	struct tar_pax pax;
	bool have_pax;
	char *long_name, *long_link;

	struct tar_entry entry;
	struct tar_segments segments;
	size_t segment;	      /* the one being read */
	int64_t segment_done; /* bytes of it */
	int64_t stored_left;  /* bytes of the body, in the archive */
	unsigned padding;
	/* format 1.0 sparse map: numbers yet to come (-1: the count itself), the number being read
	 */
	int64_t map_left;
	int64_t map_value, map_offset;
	bool map_digits;
};

struct input {
	const uint8_t *p;
	size_t n;
};

struct tar *tar_new(void)
{
	struct tar *t = xnew(struct tar);

	t->meta = BUF_INIT(TAR_PAX_MAX);
	t->pax = TAR_PAX_INIT;
	return t;
}

static void entry_done(struct tar_entry *e)
{
	free(e->path);
	free(e->link);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		free(e->xattrs[i].name);
		free(e->xattrs[i].value);
	}
	free(e->xattrs);
	*e = (struct tar_entry){ 0 };
}

void tar_free(struct tar *t)
{
	if (!t)
		return;
	buf_done(&t->meta);
	tar_pax_done(&t->pax);
	free(t->long_name);
	free(t->long_link);
	entry_done(&t->entry);
	free(t->segments.v);
	free(t);
}

const struct tar_entry *tar_entry(const struct tar *t)
{
	return &t->entry;
}

static int invalid(struct tar *t, struct error *err, const char *what)
{
	if (t->entry.path)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid tar entry '%s': %s",
				 t->entry.path, what);
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid tar header: %s", what);
}

/* Octal, or base-256 when the top bit is set. false: neither, or beyond 63 bits. */
static bool number(const char *field, size_t len, int64_t *ret)
{
	const unsigned char *p = (const unsigned char *)field;
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		/* Two's complement of which bit 7 of the first byte is only the mark. */
		uint64_t flip = p[0] & 0x40 ? 0xff : 0;
		for (; i < len; i++) {
			uint64_t c = p[i] ^ flip;
			if (i == 0)
				c &= 0x7f;
			if (v >> 56)
				return false;
			v = v << 8 | c;
		}
		if (v > INT64_MAX)
			return false;
		*ret = flip ? -(int64_t)v - 1 : (int64_t)v;
		return true;
	}
	while (i < len && (p[i] == ' ' || p[i] == '\0'))
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++) {
		if (v >> 60)
			return false;
		v = v << 3 | (uint64_t)(p[i] - '0');
	}
	for (; i < len; i++)
		if (p[i] != ' ' && p[i] != '\0')
			return false;
	*ret = (int64_t)v;
	return true;
}

#define NUMBER(field, ret) number((field), sizeof(field), (ret))

static bool is_zero(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0;
}

/* Both ways of summing are in the wild. */
static bool checksum_ok(const struct header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	size_t from = offsetof(struct header, chksum), to = from + sizeof(h->chksum);
	int64_t sum = 0, signed_sum = 0, want;

	if (!NUMBER(h->chksum, &want))
		return false;
	for (size_t i = 0; i < BLOCK; i++) {
		unsigned char c = i >= from && i < to ? ' ' : p[i];
		sum += c;
		signed_sum += (signed char)c;
	}
	return want == sum || want == signed_sum;
}

static char *header_path(const struct header *h)
{
	bool ustar = memcmp(h->magic, "ustar\0", 6) == 0;
	size_t max = memcmp(h->star_magic, "tar\0", 4) == 0 ? 131 : sizeof(h->prefix);
	autofree char *name = xstrndup(h->name, sizeof(h->name));

	if (!ustar || h->prefix[0] == '\0')
		return TAKE_PTR(name);
	autofree char *prefix = xstrndup(h->prefix, max);
	return xasprintf("%s/%s", prefix, name);
}

static int begin_meta(struct tar *t, char type, int64_t size, struct error *err)
{
	int64_t max = type == 'L' || type == 'K' ? TAR_PATH_MAX + 1 : TAR_PAX_MAX;

	if (size > max)
		return error_set(
			err, ERROR_INVALID_ARGUMENT,
			"invalid tar header: extended header of %lld bytes is longer than %lld",
			(long long)size, (long long)max);
	t->meta_type = type;
	t->meta_left = size;
	t->padding = (unsigned)(-size & (BLOCK - 1));
	buf_clear(&t->meta);
	t->state = STATE_META;
	return 0;
}

static int end_meta(struct tar *t, struct error *err)
{
	char **dst = t->meta_type == 'L' ? &t->long_name : &t->long_link;

	t->state = STATE_PADDING;
	switch (t->meta_type) {
	case 'g': /* global defaults have no meaning in layers, and every reader ignores them */
		return 0;
	case 'L':
	case 'K':
		str_replace(dst, t->meta.data);
		return 0;
	default:
		tar_pax_done(&t->pax);
		t->have_pax = true;
		return tar_pax_parse(&t->pax, t->meta.data, t->meta.len, err);
	}
}

static int run_meta(struct tar *t, struct input *in, struct error *err)
{
	size_t n = (size_t)MIN((int64_t)in->n, t->meta_left);

	if (t->meta_type != 'g' && buf_append(&t->meta, in->p, n) < 0)
		return invalid(t, err, "extended header is too long");
	in->p += n;
	in->n -= n;
	t->meta_left -= (int64_t)n;
	return t->meta_left == 0 ? end_meta(t, err) : 0;
}

static bool type_of(char flag, const char *path, int64_t size, enum tar_type *ret)
{
	size_t len = strlen(path);

	switch (flag) {
	case '\0':
	case '0':
		/* Before '5' there were directories: names that end in a slash. */
		*ret = len > 0 && path[len - 1] == '/' && size == 0 ? TAR_DIR : TAR_FILE;
		return true;
	case '7': /* contiguous */
	case 'S':
		*ret = TAR_FILE;
		return true;
	case '1':
		*ret = TAR_HARDLINK;
		return true;
	case '2':
		*ret = TAR_SYMLINK;
		return true;
	case '3':
		*ret = TAR_CHAR;
		return true;
	case '4':
		*ret = TAR_BLOCK;
		return true;
	case '5':
		*ret = TAR_DIR;
		return true;
	case '6':
		*ret = TAR_FIFO;
		return true;
	default:
		return false;
	}
}

/* Names: pax over the header, GNU over both, the sparse formats' own over all. */
static void merge_names(struct tar *t, const struct header *h)
{
	struct tar_entry *e = &t->entry;

	e->path = t->pax.path ? TAKE_PTR(t->pax.path) : header_path(h);
	e->link = t->pax.link ? TAKE_PTR(t->pax.link) : xstrndup(h->link, sizeof(h->link));
	if (t->long_name)
		str_replace(&e->path, t->long_name);
	if (t->long_link)
		str_replace(&e->link, t->long_link);
	if (t->pax.sparse_name)
		str_replace(&e->path, t->pax.sparse_name);
	free(TAKE_PTR(t->long_name));
	free(TAKE_PTR(t->long_link));
}

static int merge_numbers(struct tar *t, const struct header *h, struct error *err)
{
	struct tar_entry *e = &t->entry;
	int64_t mode, uid, gid, mtime, major = 0, minor = 0;

	if (!NUMBER(h->mode, &mode) || mode < 0)
		return invalid(t, err, "mode");
	if (!NUMBER(h->uid, &uid) || !NUMBER(h->gid, &gid))
		return invalid(t, err, "owner");
	if (!NUMBER(h->mtime, &mtime))
		return invalid(t, err, "time");
	if (e->type == TAR_CHAR || e->type == TAR_BLOCK)
		if (!NUMBER(h->major, &major) || !NUMBER(h->minor, &minor))
			return invalid(t, err, "device number");
	if (t->pax.have & PAX_UID)
		uid = t->pax.uid;
	if (t->pax.have & PAX_GID)
		gid = t->pax.gid;
	e->mtime = mtime;
	if (t->pax.have & PAX_MTIME) {
		e->mtime = t->pax.mtime;
		e->mtime_nsec = t->pax.mtime_nsec;
	}
	if (uid < 0 || uid > TAR_ID_MAX || gid < 0 || gid > TAR_ID_MAX)
		return invalid(t, err, "owner is out of range");
	if (major < 0 || major > UINT32_MAX || minor < 0 || minor > UINT32_MAX)
		return invalid(t, err, "device number is out of range");
	e->mode = (uint32_t)mode & 07777;
	e->uid = (uint32_t)uid;
	e->gid = (uint32_t)gid;
	e->major = (uint32_t)major;
	e->minor = (uint32_t)minor;
	return 0;
}

static int add_old_segments(struct tar *t, const char (*pairs)[24], size_t n, struct error *err)
{
	for (size_t i = 0; i < n && pairs[i][0] != '\0'; i++) {
		int64_t offset, len;
		if (!number(pairs[i], 12, &offset) || !number(pairs[i] + 12, 12, &len))
			return invalid(t, err, "sparse map");
		if (tar_segment_add(&t->segments, offset, len, err) < 0)
			return error_wrap(err, "tar entry '%s'", t->entry.path);
	}
	return 0;
}

/* Everything is known: checks that the segments fill the stored bytes and fit the file. */
static int begin_entry(struct tar *t, struct error *err)
{
	const struct tar_segments *s = &t->segments;
	int64_t sum = 0;

	for (size_t i = 0; i < s->n; i++)
		if (__builtin_add_overflow(sum, s->v[i].len, &sum))
			return invalid(t, err, "sparse map");
	if (t->entry.sparse && s->n > 0 &&
	    s->v[s->n - 1].offset + s->v[s->n - 1].len > t->entry.size)
		return invalid(t, err, "sparse map reaches beyond the file");
	if (sum != t->stored_left)
		return invalid(t, err, "sparse map does not match the data");
	t->segment = 0;
	t->segment_done = 0;
	t->state = STATE_ENTRY;
	return 0;
}

static int begin_old_sparse(struct tar *t, const struct header *h, struct error *err)
{
	if (!NUMBER(h->gnu.real_size, &t->entry.size) || t->entry.size < 0)
		return invalid(t, err, "size");
	t->entry.sparse = true;
	if (add_old_segments(t, h->gnu.sparse, OLD_SPARSE_IN_HEADER, err) < 0)
		return -1;
	if (!h->gnu.is_extended)
		return begin_entry(t, err);
	t->state = STATE_OLD_SPARSE;
	return 0;
}

static int begin_file(struct tar *t, const struct header *h, struct error *err)
{
	struct tar_entry *e = &t->entry;

	t->segments.n = 0;
	e->size = t->stored_left;
	if (h->typeflag == 'S' && memcmp(h->magic, "ustar ", 6) == 0)
		return begin_old_sparse(t, h, err);
	if (t->have_pax && t->pax.sparse_major == 1 && t->pax.sparse_minor == 0) {
		if (!(t->pax.have & PAX_SPARSE_REALSIZE))
			return invalid(t, err, "sparse file without a size");
		e->sparse = true;
		e->size = t->pax.real_size;
		t->map_left = -1;
		t->map_value = 0;
		t->map_digits = false;
		t->state = STATE_NEW_SPARSE;
		return 0;
	}
	if (t->pax.have & PAX_SPARSE_MAP) {
		if (!(t->pax.have & PAX_SPARSE_REALSIZE))
			return invalid(t, err, "sparse file without a size");
		e->sparse = true;
		e->size = t->pax.real_size;
		free(t->segments.v);
		t->segments = t->pax.segments;
		t->pax.segments = (struct tar_segments){ 0 };
		return begin_entry(t, err);
	}
	if (tar_segment_add(&t->segments, 0, e->size, err) < 0)
		return -1;
	return begin_entry(t, err);
}

static int merge(struct tar *t, const struct header *h, int64_t size, struct error *err)
{
	struct tar_entry *e = &t->entry;

	merge_names(t, h);
	if (!type_of(h->typeflag, e->path, size, &e->type))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid tar entry '%s': unknown type 0x%02x", e->path,
				 (unsigned char)h->typeflag);
	if (strlen(e->path) > TAR_PATH_MAX || strlen(e->link) > TAR_PATH_MAX)
		return invalid(t, err, "name is too long");
	if (merge_numbers(t, h, err) < 0)
		return -1;
	e->xattrs = TAKE_PTR(t->pax.xattrs);
	e->n_xattrs = t->pax.n_xattrs;
	t->pax.n_xattrs = 0;
	/* Only files have a body, whatever their size field says. */
	t->stored_left = e->type == TAR_FILE ? size : 0;
	t->padding = (unsigned)(-t->stored_left & (BLOCK - 1));
	t->segments.n = 0;
	return e->type == TAR_FILE ? begin_file(t, h, err) : begin_entry(t, err);
}

static int run_header(struct tar *t, struct error *err)
{
	const struct header *h = (const struct header *)t->block;
	int64_t size;

	if (is_zero(t->block)) {
		t->state = t->state == STATE_ONE_ZERO ? STATE_END : STATE_ONE_ZERO;
		return 0;
	}
	entry_done(&t->entry);
	if (t->state == STATE_ONE_ZERO)
		return invalid(t, err, "an entry follows a block of zeros");
	if (!checksum_ok(h))
		return invalid(t, err, "checksum");
	if (!NUMBER(h->size, &size) || size < 0 || size > SIZE_MAX_STORED)
		return invalid(t, err, "size");
	switch (h->typeflag) {
	case 'x':
	case 'X':
	case 'g':
	case 'L':
	case 'K':
		if (begin_meta(t, h->typeflag, size, err) < 0)
			return -1;
		return size == 0 ? end_meta(t, err) : 0;
	default:
		break;
	}
	if (t->pax.have & PAX_SIZE)
		size = t->pax.size;
	if (size > SIZE_MAX_STORED)
		return invalid(t, err, "size");
	int r = merge(t, h, size, err);
	tar_pax_done(&t->pax);
	t->have_pax = false;
	return r;
}

static int run_old_sparse(struct tar *t, struct error *err)
{
	const char(*pairs)[24] = (const char(*)[24])t->block;
	bool more = t->block[OLD_SPARSE_IN_BLOCK * 24] != 0;

	if (add_old_segments(t, pairs, OLD_SPARSE_IN_BLOCK, err) < 0)
		return -1;
	return more ? 0 : begin_entry(t, err);
}

static int map_number(struct tar *t, int64_t v, struct error *err)
{
	if (t->map_left < 0) {
		if (v > TAR_SPARSE_MAX)
			return invalid(t, err, "sparse map is too long");
		t->map_left = 2 * v;
		return 0;
	}
	t->map_left--;
	if (t->map_left & 1) {
		t->map_offset = v;
		return 0;
	}
	if (tar_segment_add(&t->segments, t->map_offset, v, err) < 0)
		return error_wrap(err, "tar entry '%s'", t->entry.path);
	return 0;
}

/* One block of decimal lines; the map ends with its last number, the block's rest is padding. */
static int run_new_sparse(struct tar *t, struct error *err)
{
	if (t->stored_left < BLOCK)
		return invalid(t, err, "sparse map");
	t->stored_left -= BLOCK;
	for (size_t i = 0; i < BLOCK && t->map_left != 0; i++) {
		uint8_t c = t->block[i];
		if (c == '\n' && t->map_digits) {
			if (map_number(t, t->map_value, err) < 0)
				return -1;
			t->map_value = 0;
			t->map_digits = false;
			continue;
		}
		if (c < '0' || c > '9' || __builtin_mul_overflow(t->map_value, 10, &t->map_value) ||
		    __builtin_add_overflow(t->map_value, c - '0', &t->map_value))
			return invalid(t, err, "sparse map");
		t->map_digits = true;
	}
	return t->map_left == 0 ? begin_entry(t, err) : 0;
}

static void run_data(struct tar *t, struct input *in, struct tar_data *ret)
{
	const struct tar_segment *s = &t->segments.v[t->segment];
	size_t n = (size_t)MIN((int64_t)in->n, s->len - t->segment_done);

	*ret = (struct tar_data){ .p = in->p, .n = n, .offset = s->offset + t->segment_done };
	in->p += n;
	in->n -= n;
	t->stored_left -= (int64_t)n;
	t->segment_done += (int64_t)n;
	if (t->segment_done == s->len) {
		t->segment++;
		t->segment_done = 0;
	}
	if (t->segment == t->segments.n) {
		assert(t->stored_left == 0);
		t->state = STATE_ENTRY_END;
	}
}

static bool fill_block(struct tar *t, struct input *in)
{
	size_t n = MIN(BLOCK - t->block_len, in->n);

	memcpy(t->block + t->block_len, in->p, n);
	in->p += n;
	in->n -= n;
	t->block_len += n;
	if (t->block_len < BLOCK)
		return false;
	t->block_len = 0;
	return true;
}

static void skip_padding(struct tar *t, struct input *in)
{
	size_t n = MIN((size_t)t->padding, in->n);

	in->p += n;
	in->n -= n;
	t->padding -= (unsigned)n;
	if (t->padding == 0)
		t->state = STATE_HEADER;
}

/* An event, -1, or TAR_NEED_INPUT to go on. */
static int step(struct tar *t, struct input *in, struct tar_data *ret, struct error *err)
{
	switch (t->state) {
	case STATE_HEADER:
	case STATE_ONE_ZERO:
		return fill_block(t, in) ? run_header(t, err) : 0;
	case STATE_OLD_SPARSE:
		return fill_block(t, in) ? run_old_sparse(t, err) : 0;
	case STATE_NEW_SPARSE:
		return fill_block(t, in) ? run_new_sparse(t, err) : 0;
	case STATE_META:
		return run_meta(t, in, err);
	case STATE_ENTRY:
		t->state = t->segments.n > 0 ? STATE_DATA : STATE_ENTRY_END;
		return TAR_ENTRY;
	case STATE_DATA:
		run_data(t, in, ret);
		return TAR_DATA;
	case STATE_ENTRY_END:
		t->state = t->padding ? STATE_PADDING : STATE_HEADER;
		return TAR_ENTRY_END;
	case STATE_PADDING:
		skip_padding(t, in);
		return 0;
	case STATE_END:
		in->p += in->n;
		in->n = 0;
		return TAR_END;
	}
	assert(false);
	return -1;
}

int tar_next(struct tar *t, const uint8_t **in, size_t *n, struct tar_data *ret_data,
	     struct error *err)
{
	struct input rest = { .p = *in, .n = *n };
	int r = TAR_NEED_INPUT;

	static_assert(TAR_NEED_INPUT == 0, "steps return 0 to go on");
	/* Some states go on without input. */
	while (r == 0 && (rest.n > 0 || t->state == STATE_ENTRY || t->state == STATE_ENTRY_END ||
			  t->state == STATE_END || (t->state == STATE_PADDING && t->padding == 0)))
		r = step(t, &rest, ret_data, err);
	*in = rest.p;
	*n = rest.n;
	return r;
}

int tar_finish(const struct tar *t, struct error *err)
{
	bool between = (t->state == STATE_HEADER || t->state == STATE_ONE_ZERO) &&
		       t->block_len == 0 && !t->have_pax && !t->long_name && !t->long_link;

	if (between || t->state == STATE_END)
		return 0;
	if (t->entry.path)
		return error_set(err, ERROR_DATA_LOSS, "tar stream is truncated in or after '%s'",
				 t->entry.path);
	return error_set(err, ERROR_DATA_LOSS, "tar stream is truncated");
}
