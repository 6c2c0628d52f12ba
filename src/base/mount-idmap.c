/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overlay makes private copies of the mounts that its layers are given by, with their mapping. It
 * took detached mounts for that only from Linux 6.15 on, so the layers are attached for the moment,
 * in a tmpfs. The upper layer stays as it is: overlay works in it as who mounts it, whom the
 * mapping has no id for.
 */

#include "base/mount.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/mount-plan.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct layers {
	const char *scratch;
	const char *userns;
	unsigned n;
};

static const char *idmap_of(const struct mount *m)
{
	for (size_t i = 0; i < m->options.n; i++)
		if (str_has_prefix(m->options.v[i], MOUNT_IDMAP_OPTION))
			return m->options.v[i] + strlen(MOUNT_IDMAP_OPTION);
	return NULL;
}

/* Mounts dir, mapped, at a new place; its path, malloc'ed. */
static char *place(struct layers *l, const char *dir, struct error *err)
{
	automounts struct mounts one = MOUNTS_INIT;
	autofree char *path = xasprintf("%s/%u", l->scratch, l->n++);
	struct mount *m = mounts_add(&one, "bind", dir, NULL);

	strv_push(&m->options, "bind");
	strv_push_printf(&m->options, MOUNT_IDMAP_OPTION "%s", l->userns);
	if (mkdir(path, 0700) < 0) {
		error_errno(err, errno, "make '%s'", path);
		return NULL;
	}
	return mounts_attach(&one, path, err) < 0 ? NULL : TAKE_PTR(path);
}

/* ':' and '\' are escaped in the value; what we make here has neither unless the scratch has. */
static int map_lower(struct layers *l, char **option, struct error *err)
{
	CLEANUP(overlay_layers_done) struct overlay_layers layers = { 0 };
	struct buf out = BUF_INIT(BUF_NO_LIMIT);

	overlay_layers_split(*option + strlen("lowerdir="), &layers);
	buf_puts(&out, "lowerdir=");
	for (size_t i = 0; i < layers.lower.n; i++) {
		autofree char *path = place(l, layers.lower.v[i], err);

		if (!path) {
			buf_done(&out);
			return -1;
		}
		if (i > 0)
			buf_putc(&out, ':');
		for (const char *p = path; *p; p++) {
			if (*p == ':' || *p == '\\')
				buf_putc(&out, '\\');
			buf_putc(&out, *p);
		}
	}
	free(*option);
	*option = buf_steal(&out, NULL);
	return 0;
}

static int map_mount(struct layers *l, struct mount *m, struct error *err)
{
	for (size_t i = 0; i < m->options.n; i++) {
		char **option = &m->options.v[i];

		if (str_has_prefix(*option, "lowerdir=") && map_lower(l, option, err) < 0)
			return -1;
	}
	return 0;
}

int mounts_idmap_layers(struct mounts *m, const char *scratch, struct error *err)
{
	bool mounted = false;
	unsigned n = 0;

	for (size_t i = 0; i < m->n; i++) {
		const char *userns = idmap_of(&m->v[i]);
		struct layers l = { .scratch = scratch, .userns = userns, .n = n };

		if (!userns || !str_equal(m->v[i].type, "overlay"))
			continue;
		if (!mounted && mkdir(scratch, 0700) < 0 && errno != EEXIST)
			return error_errno(err, errno, "make '%s'", scratch);
		if (!mounted &&
		    mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m") < 0)
			return error_errno(err, errno, "mount a tmpfs on '%s'", scratch);
		mounted = true;
		int r = map_mount(&l, &m->v[i], err);
		n = l.n;
		if (r < 0) {
			mount_detach_all(scratch, MNT_DETACH, NULL);
			return error_wrap(err, "map the ids of the root file system");
		}
	}
	return 0;
}
