/* SPDX-License-Identifier: Apache-2.0 */
#include "tar/tar-pax.h"

#include "base/hex.h"
#include "base/mem.h"
#include "base/parse.h"

#include <assert.h>
#include <string.h>

#define XATTRS_MAX 256
#define NAME_MAX_XATTR 255

void tar_pax_done(struct tar_pax *p)
{
	free(p->path);
	free(p->link);
	free(p->sparse_name);
	free(p->segments.v);
	for (size_t i = 0; i < p->n_xattrs; i++) {
		free(p->xattrs[i].name);
		free(p->xattrs[i].value);
	}
	free(p->xattrs);
	*p = TAR_PAX_INIT;
}

int tar_segment_add(struct tar_segments *s, int64_t offset, int64_t len, struct error *err)
{
	int64_t floor = s->n > 0 ? s->v[s->n - 1].offset + s->v[s->n - 1].len : 0;

	if (offset < floor || len < 0 || offset > INT64_MAX - len)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid sparse map");
	if (len == 0)
		return 0; /* marks the size only */
	if (s->n >= TAR_SPARSE_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "sparse map has more than %d segments", TAR_SPARSE_MAX);
	GROW_ARRAY(s->v, s->n);
	s->v[s->n++] = (struct tar_segment){ .offset = offset, .len = len };
	return 0;
}

static int bad_record(struct error *err, const char *key)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "invalid pax record '%.64s'", key);
}

/* An empty value takes the record back. */
static int take_string(char **dst, const char *key, const char *value, size_t len,
		       struct error *err)
{
	if (strlen(value) != len)
		return bad_record(err, key);
	if (len > TAR_PATH_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "pax record '%s' is longer than %d bytes", key, TAR_PATH_MAX);
	str_replace(dst, len ? value : NULL);
	return 0;
}

static int take_number(struct tar_pax *p, int64_t *dst, unsigned have, const char *key,
		       const char *value, size_t len, struct error *err)
{
	if (len == 0) {
		p->have &= ~have;
		return 0;
	}
	if (strlen(value) != len || parse_int64(value, dst) < 0 || *dst < 0)
		return bad_record(err, key);
	p->have |= have;
	return 0;
}

/* "[-]seconds[.fraction]"; beyond nanoseconds the fraction is cut. */
static int take_time(struct tar_pax *p, const char *key, const char *value, size_t len,
		     struct error *err)
{
	if (len == 0) {
		p->have &= ~(unsigned)PAX_MTIME;
		return 0;
	}
	const char *dot = strchr(value, '.');
	autofree char *whole = xstrndup(value, dot ? (size_t)(dot - value) : len);
	uint32_t ns = 0;
	if (strlen(value) != len || parse_int64(whole, &p->mtime) < 0)
		return bad_record(err, key);
	size_t digits = 0;
	for (const char *c = dot ? dot + 1 : ""; *c; c++, digits++) {
		if (*c < '0' || *c > '9')
			return bad_record(err, key);
		if (digits < 9)
			ns = ns * 10 + (uint32_t)(*c - '0');
	}
	for (; digits < 9; digits++)
		ns *= 10;
	/* -1.25 is 0.75 after -2 */
	if (value[0] == '-' && ns > 0) {
		if (p->mtime == INT64_MIN)
			return bad_record(err, key);
		p->mtime--;
		ns = 1000000000U - ns;
	}
	p->mtime_nsec = ns;
	p->have |= PAX_MTIME;
	return 0;
}

static int take_xattr(struct tar_pax *p, const char *name, const char *value, size_t len,
		      struct error *err)
{
	size_t i = 0;

	if (name[0] == '\0' || strlen(name) > NAME_MAX_XATTR || len > TAR_XATTR_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid extended attribute '%.64s'",
				 name);
	while (i < p->n_xattrs && strcmp(p->xattrs[i].name, name) != 0)
		i++;
	if (i == p->n_xattrs) {
		if (i >= XATTRS_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "more than %d extended attributes", XATTRS_MAX);
		GROW_ARRAY(p->xattrs, p->n_xattrs);
		p->xattrs[p->n_xattrs++] = (struct tar_xattr){ .name = xstrdup(name) };
	}
	free(p->xattrs[i].value);
	p->xattrs[i].value = xmalloc(len + 1);
	memcpy(p->xattrs[i].value, value, len);
	p->xattrs[i].value[len] = '\0';
	p->xattrs[i].len = len;
	return 0;
}

static int unhex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* libarchive's form: the name URL-encoded, the value base64. */
static int take_libarchive_xattr(struct tar_pax *p, const char *name, const char *value, size_t len,
				 struct error *err)
{
	autobuf struct buf plain = BUF_INIT(TAR_PAX_MAX), bytes = BUF_INIT(TAR_PAX_MAX);

	for (; *name; name++) {
		int high = *name == '%' ? unhex(name[1]) : -1;
		int low = high >= 0 ? unhex(name[2]) : -1;
		if (low >= 0) {
			buf_putc(&plain, (char)(high << 4 | low));
			name += 2;
		} else {
			buf_putc(&plain, *name);
		}
	}
	if (base64_decode(value, len, &bytes) < 0 || strlen(plain.data) != plain.len)
		return bad_record(err, "LIBARCHIVE.xattr");
	return take_xattr(p, plain.data, bytes.data, bytes.len, err);
}

/* "offset,length,offset,length..." */
static int take_map(struct tar_pax *p, const char *key, const char *value, size_t len,
		    struct error *err)
{
	const char *c = value, *end = value + len;
	int64_t pair[2];
	size_t n = 0;

	p->segments.n = 0;
	p->have |= PAX_SPARSE_MAP;
	while (c < end) {
		int64_t v = 0;
		const char *start = c;
		for (; c < end && *c >= '0' && *c <= '9'; c++)
			if (__builtin_mul_overflow(v, 10, &v) ||
			    __builtin_add_overflow(v, *c - '0', &v))
				return bad_record(err, key);
		if (c == start || (c < end && *c++ != ','))
			return bad_record(err, key);
		pair[n++ & 1] = v;
		if ((n & 1) == 0 && tar_segment_add(&p->segments, pair[0], pair[1], err) < 0)
			return -1;
	}
	return n & 1 ? bad_record(err, key) : 0;
}

/* Format 0.0: offset and numbytes alternate. */
static int take_pair(struct tar_pax *p, const char *key, const char *value, size_t len,
		     struct error *err)
{
	int64_t v;

	if (strlen(value) != len || parse_int64(value, &v) < 0 || v < 0)
		return bad_record(err, key);
	p->have |= PAX_SPARSE_MAP;
	if (strcmp(key, "GNU.sparse.offset") == 0) {
		if (p->pending_offset >= 0)
			return bad_record(err, key);
		p->pending_offset = v;
		return 0;
	}
	if (p->pending_offset < 0)
		return bad_record(err, key);
	int r = tar_segment_add(&p->segments, p->pending_offset, v, err);
	p->pending_offset = -1;
	return r;
}

static int take_sparse(struct tar_pax *p, const char *key, const char *value, size_t len,
		       struct error *err)
{
	const char *what = key + strlen("GNU.sparse.");

	if (strcmp(what, "name") == 0)
		return take_string(&p->sparse_name, key, value, len, err);
	if (strcmp(what, "map") == 0)
		return take_map(p, key, value, len, err);
	if (strcmp(what, "offset") == 0 || strcmp(what, "numbytes") == 0)
		return take_pair(p, key, value, len, err);
	if (strcmp(what, "size") == 0 || strcmp(what, "realsize") == 0)
		return take_number(p, &p->real_size, PAX_SPARSE_REALSIZE, key, value, len, err);
	if (strcmp(what, "major") == 0)
		return take_number(p, &p->sparse_major, 0, key, value, len, err);
	if (strcmp(what, "minor") == 0)
		return take_number(p, &p->sparse_minor, 0, key, value, len, err);
	return 0;
}

static int take(struct tar_pax *p, const char *key, const char *value, size_t len,
		struct error *err)
{
	if (strcmp(key, "path") == 0)
		return take_string(&p->path, key, value, len, err);
	if (strcmp(key, "linkpath") == 0)
		return take_string(&p->link, key, value, len, err);
	if (strcmp(key, "size") == 0)
		return take_number(p, &p->size, PAX_SIZE, key, value, len, err);
	if (strcmp(key, "uid") == 0)
		return take_number(p, &p->uid, PAX_UID, key, value, len, err);
	if (strcmp(key, "gid") == 0)
		return take_number(p, &p->gid, PAX_GID, key, value, len, err);
	if (strcmp(key, "mtime") == 0)
		return take_time(p, key, value, len, err);
	if (str_has_prefix(key, "SCHILY.xattr."))
		return take_xattr(p, key + strlen("SCHILY.xattr."), value, len, err);
	if (str_has_prefix(key, "LIBARCHIVE.xattr."))
		return take_libarchive_xattr(p, key + strlen("LIBARCHIVE.xattr."), value, len, err);
	if (str_has_prefix(key, "GNU.sparse."))
		return take_sparse(p, key, value, len, err);
	return 0; /* atime, uname, comments, vendors' */
}

/* Length of the record at text, whose number and space end at *ret_key; 0 when it is none. */
static size_t record_length(const char *text, size_t len, const char **ret_key)
{
	size_t n = 0, i = 0;

	for (; i < len && i < 8 && text[i] >= '0' && text[i] <= '9'; i++)
		n = n * 10 + (size_t)(text[i] - '0');
	if (i == 0 || i >= len || text[i] != ' ' || n > len || n < i + 3 || text[n - 1] != '\n')
		return 0;
	*ret_key = text + i + 1;
	return n;
}

int tar_pax_parse(struct tar_pax *p, const char *text, size_t len, struct error *err)
{
	while (len > 0) {
		const char *key = NULL;
		size_t n = record_length(text, len, &key);
		if (n == 0)
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid pax header");
		const char *end = text + n - 1;
		const char *equals = memchr(key, '=', (size_t)(end - key));
		if (!equals || equals == key || memchr(key, '\0', (size_t)(equals - key)))
			return error_set(err, ERROR_INVALID_ARGUMENT, "invalid pax header");
		autofree char *name = xstrndup(key, (size_t)(equals - key));
		autofree char *value = xmalloc((size_t)(end - equals));
		memcpy(value, equals + 1, (size_t)(end - equals - 1));
		value[end - equals - 1] = '\0';
		if (take(p, name, value, (size_t)(end - equals - 1), err) < 0)
			return -1;
		text += n;
		len -= n;
	}
	return p->pending_offset >= 0 ? bad_record(err, "GNU.sparse.offset") : 0;
}
