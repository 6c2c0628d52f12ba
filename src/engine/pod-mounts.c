/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes of a pod's container. What has to be mapped, or is an image, is mounted by the shim in
 * its own namespace (task_create's `mounts`), so that the host's mount table does not see it and
 * nothing has to be unmounted after a crash.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"
#include "engine/pod-internal.h"
#include "oci/digest.h"
#include "store/snapshots.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define MOUNTINFO_MAX ((size_t)64 << 20)
#define IMAGE_FAILED "ImageVolumeMountFailed: "

static char *volume_key(const struct container *c, size_t i)
{
	return xasprintf("%s-image-%zu", c->id, i);
}

static int image_chain(struct container *c, const char *name, char ret[DIGEST_MAX],
		       struct error *err)
{
	struct image_details d = { 0 };

	if (!c->e->config.images)
		return error_set(err, ERROR_NOT_FOUND, "No such image: %s", name);
	if (image_lookup(c->e->config.images, c->ns, name, &d, err) < 0)
		return -1;
	image_config_chain_id(&d.config, d.config.diff_ids.n, ret);
	image_details_done(&d);
	return 0;
}

/* The directory that is asked for must be there: better now than at the start. */
static int check_sub_path(const struct mounts *mounts, const char *sub_path, struct error *err)
{
	autoclose int root = mount_open_detached(&mounts->v[0], err);

	if (root < 0)
		return -1;
	autoclose int fd = fs_open_in_root(root, str_empty(sub_path) ? "." : sub_path,
					   O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? error_errno(err, -fd, "image_sub_path '%s'", sub_path) : 0;
}

static int make_volume(struct container *c, size_t i, struct error *err)
{
	const struct store_ctx ctx = container_store(c);
	const struct mount_spec *m = &c->config.mounts.v[i];
	autofree char *key = volume_key(c, i);
	automounts struct mounts mounts = MOUNTS_INIT;
	char chain[DIGEST_MAX];

	if (image_chain(c, m->source, chain, err) < 0 ||
	    snapshot_view(&ctx, c->snapshotter, key, chain, NULL, &mounts, err) < 0 ||
	    check_sub_path(&mounts, m->sub_path, err) < 0)
		return error_wrap(err, IMAGE_FAILED "mounts[%zu]", i);
	return 0;
}

int pod_make_volumes(struct container *c, struct error *err)
{
	for (size_t i = 0; i < c->config.mounts.n; i++)
		if (str_equal(c->config.mounts.v[i].type, "image") && make_volume(c, i, err) < 0)
			return -1;
	return 0;
}

void pod_hold_volumes(const struct container *c, struct kvs *labels)
{
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		autofree char *label = NULL, *key = volume_key(c, i);

		if (!str_equal(c->config.mounts.v[i].type, "image"))
			continue;
		label = xasprintf("containerd.io/gc.ref.snapshot.%s/image-%zu", c->snapshotter, i);
		kvs_set(labels, label, key);
	}
}

void pod_remove_volumes(struct container *c)
{
	const struct store_ctx ctx = container_store(c);

	for (size_t i = 0; i < c->config.mounts.n; i++) {
		autoerror struct error err = ERROR_INIT;
		autofree char *key = volume_key(c, i);

		if (str_equal(c->config.mounts.v[i].type, "image") &&
		    snapshot_remove(&ctx, c->snapshotter, key, &err) < 0 &&
		    !error_is(&err, ERROR_NOT_FOUND))
			log_warn("%s, ignoring", error_msg(&err));
	}
}

/* --- resolving --- */

/* As our mount table has it: "36 35 98:0 /root /mnt rw shared:1 master:2 - ...". */
static bool has_peers(const char *text, uint64_t id, bool slave_is_enough)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *dash = memmem(line, len, " - ", 3);
		size_t head = dash ? (size_t)(dash - line) : len;

		size_t digits = strspn(line, "0123456789");
		autofree char *number = xstrndup(line, digits);
		uint64_t found = 0;

		if (parse_uint64(number, &found) == 0 && found == id)
			return memmem(line, head, " shared:", 8) ||
			       (slave_is_enough && memmem(line, head, " master:", 8));
		line += len + (line[len] == '\n');
	}
	return false;
}

static int check_propagation(const struct mount_spec *m, const char *path, struct error *err)
{
	bool slave = str_equal(m->propagation, "rslave") || str_equal(m->propagation, "slave");
	bool shared = str_equal(m->propagation, "rshared") || str_equal(m->propagation, "shared");
	autobuf struct buf text = BUF_INIT(MOUNTINFO_MAX);
	struct statx stx;

	if (!slave && !shared)
		return 0;
	if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &stx) < 0 ||
	    fs_read(AT_FDCWD, "/proc/self/mountinfo", &text) < 0)
		return error_errno(err, errno, "find the mount of '%s'", path);
	if (has_peers(text.data, stx.stx_mnt_id, slave))
		return 0;
	return error_set(err, ERROR_FAILED_PRECONDITION,
			 "path \"%s\" is mounted on a mount that is not shared%s", path,
			 slave ? " or slave" : "");
}

static struct mount *add_extra(struct pod_starting *p, struct mount_spec *m, size_t i,
			       const char *suffix, const char *type, const char *source)
{
	autofree char *name = xasprintf("v%zu%s", i, suffix);

	if (p->task) {
		free(m->source);
		m->source = task_mount_path(p->task, name);
	}
	return mounts_add(&p->extra, type, source, name);
}

static void map_ids(const struct pod_starting *p, struct mount *m)
{
	strv_push_printf(&m->options, MOUNT_IDMAP_OPTION "%s", p->ns_paths[SANDBOX_USER]);
}

static int resolve_bind(struct pod_starting *p, struct mount_spec *m, size_t i, struct error *err)
{
	char real[PATH_MAX];
	int r = 0;

	if (!realpath(m->source, real)) {
		r = -errno;
		if (r == -ENOENT && m->create_source)
			r = fs_mkdir_p(m->source, 0755);
		if (r == 0 && !realpath(m->source, real))
			r = -errno;
	}
	if (r < 0)
		return error_errno(err, -r, "mounts[%zu].host_path '%s'", i, m->source);
	str_replace(&m->source, real);
	if (check_propagation(m, real, err) < 0)
		return error_wrap(err, "mounts[%zu].propagation", i);
	if (m->uid_mappings.n == 0)
		return 0;
	struct mount *extra = add_extra(p, m, i, "", "bind", real);
	strv_push(&extra->options, "rbind");
	map_ids(p, extra);
	return 0;
}

static int resolve_image(struct pod_starting *p, struct mount_spec *m, size_t i, struct error *err)
{
	const struct store_ctx ctx = container_store(p->c);
	autofree char *key = volume_key(p->c, i);
	automounts struct mounts mounts = MOUNTS_INIT;

	if (snapshot_mounts(&ctx, p->c->snapshotter, key, &mounts, err) < 0)
		return error_wrap(err, IMAGE_FAILED "mounts[%zu]", i);
	struct mount *extra = add_extra(p, m, i, "", mounts.v[0].type, mounts.v[0].source);
	strv_extend(&extra->options, &mounts.v[0].options);
	if (p->s->config.userns)
		map_ids(p, extra);
	str_replace(&m->type, "bind");
	if (str_empty(m->sub_path))
		return 0;
	autofree char *whole = xstrdup(m->source);
	extra = add_extra(p, m, i, "s", "bind", whole);
	strv_push(&extra->options, "bind");
	strv_push_printf(&extra->options, TASK_MOUNT_BENEATH "%s", m->sub_path);
	return 0;
}

int pod_resolve_mounts(struct pod_starting *p, struct error *err)
{
	const struct container_config *k = &p->c->config;

	for (size_t i = 0; i < k->mounts.n; i++) {
		struct mount_spec *m = mount_specs_add(&p->mounts, &k->mounts.v[i]);

		if (str_equal(m->type, "image") && resolve_image(p, m, i, err) < 0)
			return -1;
		if (str_equal(k->mounts.v[i].type, "bind") && resolve_bind(p, m, i, err) < 0)
			return -1;
	}
	mount_specs_sort(&p->mounts);
	return 0;
}
