/* SPDX-License-Identifier: Apache-2.0 */
#include "tar/tar-write.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define OCTAL7_MAX 07777777
#define OCTAL11_MAX 077777777777LL

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag;
	char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8];
	char prefix[155], pad[12];
};

static_assert(sizeof(struct header) == TAR_UNIT, "a tar header is one block");

static const char type_flags[] = {
	[TAR_FILE] = '0',  [TAR_HARDLINK] = '1', [TAR_SYMLINK] = '2', [TAR_CHAR] = '3',
	[TAR_BLOCK] = '4', [TAR_DIR] = '5',	 [TAR_FIFO] = '6',
};

static void octal(char *field, size_t size, uint64_t value)
{
	snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)value);
}

static void put_checksum(struct header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	unsigned sum = 0;

	memset(h->chksum, ' ', sizeof(h->chksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += p[i];
	snprintf(h->chksum, sizeof(h->chksum), "%06o", sum);
}

/* "LEN key=value\n", where LEN counts itself. */
static void pax_record(struct buf *b, const char *prefix, const char *key, const void *value,
		       size_t n)
{
	size_t bare = strlen(prefix) + strlen(key) + n + 3, len = bare + 1;

	for (size_t limit = 10; len >= limit; limit *= 10)
		len++;
	buf_printf(b, "%zu %s%s=", len, prefix, key);
	buf_append(b, value, n);
	buf_putc(b, '\n');
}

static void pax_number(struct buf *b, const char *key, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	pax_record(b, "", key, text, strlen(text));
}

/* With the slash that tells a directory, also for readers that do not look at the type. */
static char *shown_path(const struct tar_entry *e)
{
	size_t n = strlen(e->path);

	if (e->type != TAR_DIR || (n > 0 && e->path[n - 1] == '/'))
		return xstrdup(e->path);
	return xasprintf("%s/", e->path);
}

static void collect_pax(const struct tar_entry *e, const char *path, struct buf *pax)
{
	struct header *h = NULL;

	if (strlen(path) > sizeof(h->name))
		pax_record(pax, "", "path", path, strlen(path));
	if (strlen(e->link) > sizeof(h->linkname))
		pax_record(pax, "", "linkpath", e->link, strlen(e->link));
	if (e->size > OCTAL11_MAX)
		pax_number(pax, "size", e->size);
	if (e->uid > OCTAL7_MAX)
		pax_number(pax, "uid", e->uid);
	if (e->gid > OCTAL7_MAX)
		pax_number(pax, "gid", e->gid);
	if (e->mtime < 0 || e->mtime > OCTAL11_MAX)
		pax_number(pax, "mtime", e->mtime);
	for (size_t i = 0; i < e->n_xattrs; i++)
		pax_record(pax, "SCHILY.xattr.", e->xattrs[i].name, e->xattrs[i].value,
			   e->xattrs[i].len);
}

static void put_block(struct buf *out, char type, const char *path, const struct tar_entry *e,
		      int64_t size)
{
	struct header h = { .typeflag = type, .magic = "ustar", .version = { '0', '0' } };

	memcpy(h.name, path, strnlen(path, sizeof(h.name)));
	octal(h.mode, sizeof(h.mode), e ? e->mode & 07777 : 0644);
	octal(h.uid, sizeof(h.uid), e && e->uid <= OCTAL7_MAX ? e->uid : 0);
	octal(h.gid, sizeof(h.gid), e && e->gid <= OCTAL7_MAX ? e->gid : 0);
	octal(h.size, sizeof(h.size), size > OCTAL11_MAX ? 0 : (uint64_t)size);
	octal(h.mtime, sizeof(h.mtime),
	      e && e->mtime >= 0 && e->mtime <= OCTAL11_MAX ? (uint64_t)e->mtime : 0);
	octal(h.devmajor, sizeof(h.devmajor), e ? e->major & OCTAL7_MAX : 0);
	octal(h.devminor, sizeof(h.devminor), e ? e->minor & OCTAL7_MAX : 0);
	if (e)
		memcpy(h.linkname, e->link, strnlen(e->link, sizeof(h.linkname)));
	put_checksum(&h);
	buf_append(out, &h, sizeof(h));
}

static void put_zeros(struct buf *out, size_t n)
{
	static const char zeros[2 * TAR_UNIT];

	assert(n <= sizeof(zeros));
	buf_append(out, zeros, n);
}

int tar_write_header(struct buf *out, const struct tar_entry *e)
{
	autobuf struct buf pax = BUF_INIT(BUF_NO_LIMIT);
	autofree char *path = shown_path(e);

	collect_pax(e, path, &pax);
	if (pax.len > 0) {
		put_block(out, 'x', "pax", NULL, (int64_t)pax.len);
		buf_append(out, pax.data, pax.len);
		put_zeros(out, tar_padding((int64_t)pax.len));
	}
	put_block(out, type_flags[e->type], path, e, e->type == TAR_FILE ? e->size : 0);
	return out->overflow ? -ENOBUFS : 0;
}

int tar_write_end(struct buf *out)
{
	put_zeros(out, 2 * TAR_UNIT);
	return out->overflow ? -ENOBUFS : 0;
}
