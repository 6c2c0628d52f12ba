/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs that a process outside wrote as nameless files (O_TMPFILE): they get a name in the trash
 * directory, which recovery empties, and from there enter as every blob does.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "oci/digest.h"
#include "store/content.h"
#include "store/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int content_staging_fd(struct store *s, struct error *err)
{
	int fd = openat(s->root_fd, TRASH_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? error_errno(err, errno, "open '%s/" TRASH_DIR "'", s->root) : fd;
}

static int check(int fd, const char *digest, int64_t size, bool verified, struct error *err)
{
	CLEANUP(digester_freep) struct digester *d = NULL;
	char actual[DIGEST_MAX];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "stat staged content");
	if (!S_ISREG(st.st_mode) || st.st_size != size)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "content '%s': %lld bytes, expected %lld", digest,
				 (long long)st.st_size, (long long)size);
	if (verified)
		return 0;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "seek staged content");
	d = digester_new(digest);
	if (digester_update_fd(d, fd, err) < 0)
		return -1;
	digester_peek(d, actual);
	if (strcmp(actual, digest) != 0)
		return error_set(err, ERROR_FAILED_PRECONDITION, "content '%s': the bytes are '%s'",
				 digest, actual);
	return 0;
}

static int install(const struct store_ctx *c, int fd, const char *staged, const char *digest,
		   int64_t size, const struct kvs *labels, struct error *err)
{
	autotx struct db_tx tx = DB_TX_INIT;
	autofree char *path = blob_path(digest);
	char self[64];
	int r;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, c->store->root_fd, staged, AT_SYMLINK_FOLLOW) < 0)
		return error_errno(err, errno, "name content '%s'", digest);
	if (db_write(c->store->db, &tx, err) < 0)
		return -1;
	r = blob_install(c, &tx, staged, digest, size, labels, err);
	if (r != 0)
		return r;
	*strrchr(path, '/') = 0;
	r = fs_sync_dir(c->store->root_fd, path);
	return r < 0 ? error_errno(err, -r, "sync '%s'", path) : 0;
}

int content_adopt_file(const struct store_ctx *c, int fd, const char *digest, int64_t size,
		       bool verified, const struct kvs *labels, struct error *err)
{
	autofree char *staged = trash_path(c->store);
	int r;

	if (!digest || !digest_valid(digest))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%.160s' is not a valid digest",
				 digest ? digest : "");
	if (labels_check(labels, err) < 0 || check(fd, digest, size, verified, err) < 0)
		return -1;
	if (fchmod(fd, 0444) < 0 || fsync(fd) < 0)
		return error_errno(err, errno, "sync content '%s'", digest);
	r = install(c, fd, staged, digest, size, labels, err);
	if (r != 0)
		(void)unlinkat(c->store->root_fd, staged, 0);
	return r < 0 ? -1 : 0;
}
