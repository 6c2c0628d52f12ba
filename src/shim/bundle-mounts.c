/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bundle-mounts.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LIST_MAX ((size_t)4 << 20)
#define BENEATH "X-kistl.beneath="

/* A bind of a file needs a file. */
static int make_target(const struct mount *m, const char *path, struct error *err)
{
	struct stat st;
	bool file = str_equal(m->type, "bind") && stat(m->source, &st) == 0 && !S_ISDIR(st.st_mode);
	int r = 0;

	if (file) {
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		r = fd < 0 ? -errno : 0;
		closep(&fd);
	} else if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		r = -errno;
	}
	return r < 0 ? error_errno(err, -r, "make mount point '%s'", path) : 0;
}

/* A descriptor of what the mount is of, to which its source is set; -1: as it is. */
static int enter_source(struct mount *m, struct error *err)
{
	for (size_t i = 0; i < m->options.n; i++) {
		if (!str_has_prefix(m->options.v[i], BENEATH))
			continue;
		const char *path = m->options.v[i] + strlen(BENEATH);
		autoclose int root = open(m->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
		int fd = root < 0 ? -errno : fs_open_in_root(root, path, O_PATH | O_DIRECTORY, 0);

		if (fd < 0) {
			error_errno(err, -fd, "open '%s' in '%s'", path, m->source);
			return -2;
		}
		free(m->source);
		m->source = xasprintf("/proc/self/fd/%d", fd);
		return fd;
	}
	return -1;
}

static int attach_one(const struct json *j, const char *dir, struct error *err)
{
	automounts struct mounts one = MOUNTS_INIT;
	const char *name = json_get_string(j, "target");

	if (!name || !path_component_valid(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "list of mounts: invalid target '%s'",
				 name ? name : "");
	struct mount *m =
		mounts_add(&one, json_get_string(j, "type"), json_get_string(j, "source"), NULL);
	if (json_get_strv(j, "options", &m->options, err) < 0)
		return -1;
	autofree char *path = path_join(dir, name, NULL);
	autoclose int source = enter_source(m, err);
	if (source == -2)
		return -1;
	return make_target(m, path, err) < 0 ? -1 : mounts_attach(&one, path, err);
}

int bundle_mounts_attach(const char *bundle, struct error *err)
{
	autofree char *list = path_join(bundle, "mounts.json", NULL);
	autofree char *dir = path_join(bundle, "mounts", NULL);

	if (access(list, F_OK) < 0)
		return 0;
	autojson struct json *j = json_load_at(AT_FDCWD, list, LIST_MAX, err);
	if (!j)
		return error_wrap(err, "list of mounts");
	if (mkdir(dir, 0711) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make '%s'", dir);
	for (size_t i = 0; i < json_array_len(j); i++) {
		if (attach_one(json_array_get(j, i), dir, err) < 0) {
			bundle_mounts_detach(bundle);
			return -1;
		}
	}
	return 0;
}

void bundle_mounts_detach(const char *bundle)
{
	autofree char *dir = path_join(bundle, "mounts", NULL);
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		autofree char *path = path_join(dir, e->d_name, NULL);
		autoerror struct error err = ERROR_INIT;

		if (path_component_valid(e->d_name) && mount_detach_all(path, MNT_DETACH, &err) < 0)
			log_warn("%s, ignoring", error_msg(&err));
	}
	closedir(d);
}
