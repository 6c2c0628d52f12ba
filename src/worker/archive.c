/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/archive.h"

#include "base/fs.h"
#include "base/mem.h"
#include "oci/reference.h"
#include "worker/archive-internal.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#define FILES_MAX 3000 /* each is a descriptor */
#define LINKS_MAX 16

struct archive *archive_new(int staging)
{
	struct archive *a = xnew(struct archive);

	a->staging = staging;
	return a;
}

static void member_free(void *p)
{
	struct member *m = p;

	if (!m)
		return;
	closep(&m->fd);
	free(m->alias);
	free(m);
}

void archive_free(struct archive *a)
{
	if (!a)
		return;
	map_done_values(&a->members, member_free);
	map_done(&a->sent);
	digester_free(a->digester);
	free(a);
}

int archive_file(const struct archive *a, struct error *err)
{
	int fd = a->staging < 0 ? memfd_create("member", MFD_CLOEXEC)
				: openat(a->staging, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);

	return fd < 0 ? error_errno(err, errno, "create a file for a blob") : fd;
}

/* Lexically: no "." or "..", no slashes too many; "" when it leads out or is too long. */
static char *clean_name(const char *dir, const char *name)
{
	autobuf struct buf b = BUF_INIT(TAR_PATH_MAX);
	autofree char *path = *dir && *name != '/' ? xasprintf("%s/%s", dir, name) : xstrdup(name);

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (b.len == 0)
				return xstrdup("");
			while (b.len > 0 && b.data[--b.len] != '/')
				;
			b.data[b.len] = '\0';
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (b.len > 0)
				buf_putc(&b, '/');
			buf_append(&b, p, n);
		}
		p += n;
		p += *p == '/';
	}
	return b.overflow ? xstrdup("") : buf_steal(&b, NULL);
}

static struct member *add_member(struct archive *a, const char *name, char *alias,
				 struct error *err)
{
	if (a->n_files >= FILES_MAX) {
		free(alias);
		error_set(err, ERROR_RESOURCE_EXHAUSTED, "archive has more than %d members",
			  FILES_MAX);
		return NULL;
	}
	struct member *m = xnew(struct member);
	m->fd = -EBADF;
	m->alias = alias;
	struct member *old = map_set(&a->members, name, m);
	a->n_files += !old;
	member_free(old);
	return m;
}

int archive_entry(struct archive *a, const struct tar_entry *e, struct error *err)
{
	autofree char *name = clean_name("", e->path);
	autofree char *dir = xstrndup(name, (size_t)(path_base(name) - name));

	assert(!a->current);
	if (!*name)
		return 0;
	if (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK)
		return add_member(a, name, clean_name(e->type == TAR_SYMLINK ? dir : "", e->link),
				  err)
			       ? 0
			       : -1;
	if (e->type != TAR_FILE)
		return 0;
	if (e->sparse)
		return error_set(err, ERROR_INVALID_ARGUMENT, "archive member '%s' is sparse",
				 name);
	struct member *m = add_member(a, name, NULL, err);
	if (!m)
		return -1;
	m->fd = archive_file(a, err);
	if (m->fd < 0)
		return -1;
	a->current = m;
	a->digester = digester_new(str_has_prefix(name, "blobs/sha512/") ? "sha512:" : NULL);
	return 0;
}

int archive_data(struct archive *a, const void *p, size_t n, struct error *err)
{
	struct member *m = a->current;

	if (!m)
		return 0;
	if (m->size < (int64_t)sizeof(m->head))
		memcpy(m->head + m->size, p, MIN(n, sizeof(m->head) - (size_t)m->size));
	digester_update(a->digester, p, n);
	m->size += (int64_t)n;
	int r = fs_write_all(m->fd, p, n);
	return r < 0 ? error_errno(err, -r, "store a blob of the archive") : 0;
}

int archive_entry_end(struct archive *a, struct error *err)
{
	if (!a->current)
		return 0;
	digester_peek(a->digester, a->current->digest);
	digester_free(TAKE_PTR(a->digester));
	a->current = NULL;
	return 0;
}

const struct member *archive_member(const struct archive *a, const char *name)
{
	autofree char *clean = clean_name("", name);
	const struct member *m = map_get(&a->members, clean);

	for (int links = 0; m && m->alias && links < LINKS_MAX; links++)
		m = map_get(&a->members, m->alias);
	return m && m->fd >= 0 ? m : NULL;
}

enum member_format archive_member_format(const struct member *m)
{
	static const struct {
		enum member_format format;
		const char *magic;
		size_t len;
	} table[] = {
		{ MEMBER_GZIP, "\x1f\x8b\x08", 3 },
		{ MEMBER_ZSTD, "\x28\xb5\x2f\xfd", 4 },
		{ MEMBER_XZ,
		  "\xfd"
		  "7zXZ",
		  6 },
		{ MEMBER_BZIP2, "BZh", 3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (memcmp(m->head, table[i].magic, table[i].len) == 0)
			return table[i].format;
	return MEMBER_OTHER;
}

int archive_read(const struct member *m, const char *name, size_t max, struct buf *ret,
		 struct error *err)
{
	if ((uint64_t)m->size > max)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "archive member '%.100s' is longer than %zu bytes", name, max);
	buf_clear(ret);
	if (lseek(m->fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "read archive member '%.100s'", name);
	int r = fs_read_fd(m->fd, ret);
	return r < 0 ? error_errno(err, -r, "read archive member '%.100s'", name) : 0;
}

int archive_add_name(struct strv *names, const char *name, struct error *err)
{
	autoreference struct reference r = REFERENCE_INIT;

	if (reference_parse(name, &r, err) < 0)
		return error_wrap(err, "image name '%.200s' in the archive", name);
	reference_default_tag(&r);
	autofree char *full = reference_string(&r);
	if (!strv_contains(names, full))
		strv_push(names, full);
	return 0;
}

int archive_send_blob(struct archive *a, const struct descriptor *d, int fd, struct error *err)
{
	if (map_get(&a->sent, d->digest))
		return 0;
	map_set(&a->sent, d->digest, a);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "rewind a blob");
	return a->events->blob(d, fd, a->events->arg, err);
}

int archive_send_image(struct archive *a, const struct strv *names, const struct descriptor *d,
		       struct error *err)
{
	a->n_images++;
	return a->events->image(names, d, a->events->arg, err);
}

int archive_interpret(struct archive *a, const struct platform *want,
		      const struct archive_events *events, struct error *err)
{
	a->want = want;
	a->events = events;
	/* docker's of today are both; the OCI side says more. */
	if (archive_member(a, "oci-layout"))
		return archive_oci(a, err);
	if (archive_member(a, "manifest.json"))
		return archive_docker(a, err);
	if (archive_member(a, "repositories"))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "archive is of docker save before 1.10, which is not supported");
	return error_set(err, ERROR_INVALID_ARGUMENT,
			 "not an image archive: it has neither oci-layout nor manifest.json");
}
