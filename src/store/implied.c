/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's archive may hold tmp/a without an entry for tmp. When layers are unpacked one onto the
 * other, tmp keeps the attributes that a lower layer gave it. Unpacked by themselves, they get
 * default ones, and overlayfs would show those (it takes a directory's attributes from the
 * uppermost layer): /tmp would lose its 1777. So they are looked up when the chain is linked.
 *
 * A lower layer's directory counts only when nothing above it hides it: a whiteout, another kind of
 * file or an opaque directory in a layer between ends the search, and so does an opaque directory
 * above it in the layer itself. The trees are not in use yet or any more, no one changes them.
 */

#include "base/mem.h"
#include "store/snapshotter.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum found { FOUND_NOTHING, FOUND_END, FOUND_DIRECTORY };

static bool is_opaque(int fd)
{
	char value = 0;

	return fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

/* Walks the parts beneath root. *ret_fd is open when a directory was found. */
static enum found find_dir(int root, const struct strv *parts, int *ret_fd)
{
	autoclose int fd = fcntl(root, F_DUPFD_CLOEXEC, 3);
	bool opaque = false;

	for (size_t i = 0; i < parts->n; i++) {
		int next;

		opaque = opaque || is_opaque(fd);
		next = openat(fd, parts->v[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return errno == ENOENT && !opaque ? FOUND_NOTHING : FOUND_END;
		close(fd);
		fd = next;
	}
	*ret_fd = TAKE_FD(fd);
	return FOUND_DIRECTORY;
}

/* "a//b/./c/" to a, b, c; false when it would leave the tree. */
static bool split_path(const char *path, struct strv *parts)
{
	autostrv struct strv raw = STRV_INIT;

	strv_split(&raw, path, "/");
	for (size_t i = 0; i < raw.n; i++) {
		if (str_equal(raw.v[i], ".."))
			return false;
		if (*raw.v[i] && !str_equal(raw.v[i], "."))
			strv_push(parts, raw.v[i]);
	}
	return true;
}

/* An opaque directory strictly above the last part hides whatever lower layers have. */
static bool hidden_in_layer(int layer_fd, const struct strv *parts)
{
	autoclose int fd = fcntl(layer_fd, F_DUPFD_CLOEXEC, 3);

	for (size_t i = 0; i < parts->n; i++) {
		int next;

		if (is_opaque(fd))
			return true;
		next = openat(fd, parts->v[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return true;
		close(fd);
		fd = next;
	}
	return false;
}

static int patch_one(const struct snapshotter *sn, int layer_fd, const struct snapshot_chain *lower,
		     const char *path, struct error *err)
{
	autostrv struct strv parts = STRV_INIT;
	autoclose int to = -EBADF, from = -EBADF;
	enum found found = FOUND_NOTHING;

	if (!split_path(path, &parts))
		return error_set(err, ERROR_INVALID_ARGUMENT, "'%.256s' leaves the layer", path);
	if (hidden_in_layer(layer_fd, &parts) || find_dir(layer_fd, &parts, &to) != FOUND_DIRECTORY)
		return 0;
	for (size_t i = 0; i < lower->n && found == FOUND_NOTHING; i++) {
		autoclose int fd = snapshotter_open_fs(sn, lower->v[i], err);

		if (fd < 0)
			return -1;
		found = find_dir(fd, &parts, &from);
	}
	if (found != FOUND_DIRECTORY)
		return 0;
	if (tree_copy_attributes(from, to, err) < 0)
		return error_wrap(err, "directory '%.256s'", path);
	return 0;
}

int implied_patch(const struct snapshotter *sn, int layer_fd, const struct snapshot_chain *lower,
		  const struct strv *implied, struct error *err)
{
	for (size_t i = 0; i < implied->n; i++) {
		if (patch_one(sn, layer_fd, lower, implied->v[i], err) < 0)
			return -1;
	}
	return 0;
}
