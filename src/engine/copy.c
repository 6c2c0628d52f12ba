/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/copy.h"

#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define DEPTH_MAX 128
#define PIECE (1 << 20)

static int copy_dir(int source, int target, unsigned depth, struct error *err);

static int copy_bytes(int from, int to, const char *name, struct error *err)
{
	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, PIECE, 0);

		if (n == 0)
			return 0;
		if (n > 0 || errno == EINTR)
			continue;
		break;
	}
	autofree char *piece = xmalloc(PIECE);
	for (;;) {
		ssize_t n = read(from, piece, PIECE);

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		for (ssize_t done = 0; n > 0 && done < n;) {
			ssize_t w = write(to, piece + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR) {
				n = -1;
				break;
			}
			done += MAX(w, (ssize_t)0);
		}
		if (n < 0)
			return error_errno(err, errno, "copy '%s'", name);
	}
}

/* What the file system of the target does not take is left: a volume without it is still of use. */
static void copy_xattrs(int from, int to)
{
	char names[4096];
	autofree char *value = NULL;
	ssize_t n = flistxattr(from, names, sizeof(names));

	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
		if (str_has_prefix(names + i, "trusted.overlay."))
			continue;
		if (!value)
			value = xmalloc(XATTR_SIZE_MAX);
		ssize_t len = fgetxattr(from, names + i, value, XATTR_SIZE_MAX);
		if (len >= 0)
			fsetxattr(to, names + i, value, (size_t)len, 0);
	}
}

/* After the contents: times and modes would change under them. */
static int copy_attributes(int from, int to, const struct stat *st, const char *name,
			   struct error *err)
{
	const struct timespec times[] = { st->st_atim, st->st_mtim };

	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return error_errno(err, errno, "chown '%s'", name);
	copy_xattrs(from, to);
	if (fchmod(to, st->st_mode & 07777) < 0)
		return error_errno(err, errno, "chmod '%s'", name);
	futimens(to, times);
	return 0;
}

static int copy_special(int source, int target, const struct stat *st, const char *name,
			struct error *err)
{
	int r;

	if (S_ISLNK(st->st_mode)) {
		char link[PATH_MAX];
		ssize_t n = readlinkat(source, name, link, sizeof(link) - 1);

		if (n < 0)
			return error_errno(err, errno, "read link '%s'", name);
		link[n] = '\0';
		r = symlinkat(link, target, name);
	} else {
		r = mknodat(target, name, st->st_mode, st->st_rdev);
	}
	if (r < 0 || fchownat(target, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "make '%s'", name);
	const struct timespec times[] = { st->st_atim, st->st_mtim };
	utimensat(target, name, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int copy_entry(int source, int target, const char *name, unsigned depth, struct error *err)
{
	struct stat st;

	if (fstatat(source, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "stat '%s'", name);
	bool dir = S_ISDIR(st.st_mode);
	if (!dir && !S_ISREG(st.st_mode))
		return copy_special(source, target, &st, name, err);
	int kind = dir ? O_DIRECTORY : 0;
	autoclose int from = openat(source, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
	if (from < 0)
		return error_errno(err, errno, "open '%s'", name);
	if (dir && mkdirat(target, name, 0700) < 0)
		return error_errno(err, errno, "make '%s'", name);
	autoclose int to =
		openat(target, name,
		       O_NOFOLLOW | O_CLOEXEC |
			       (dir ? O_RDONLY | O_DIRECTORY : O_WRONLY | O_CREAT | O_EXCL),
		       0600);
	if (to < 0)
		return error_errno(err, errno, "make '%s'", name);
	if (dir)
		return copy_dir(from, to, depth + 1, err) < 0 ? error_wrap(err, "in '%s'", name)
							      : 0;
	return copy_bytes(from, to, name, err) < 0 ? -1 : copy_attributes(from, to, &st, name, err);
}

static int copy_dir(int source, int target, unsigned depth, struct error *err)
{
	struct stat st;

	if (depth > DEPTH_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "directories too deep to copy");
	if (fstat(source, &st) < 0)
		return error_errno(err, errno, "stat a directory");
	int again = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	if (!d)
		return error_errno(err, errno, "read a directory");
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));)
		if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
			r = copy_entry(source, target, e->d_name, depth, err);
	closedir(d);
	return r < 0 ? -1 : copy_attributes(source, target, &st, ".", err);
}

int copy_tree(int source, int target, struct error *err)
{
	return copy_dir(source, target, 0, err);
}
