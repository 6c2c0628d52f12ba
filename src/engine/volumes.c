/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes of the driver "local": a directory and a record of kind "volume". Making and removing one
 * name exclude each other (volumes_busy); whether it is in use is seen in the containers' mounts,
 * those of containers that are just being created too.
 */

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "engine/copy.h"
#include "engine/internal.h"
#include "engine/names.h"
#include "engine/volume-mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define VOLUME_KIND "volume"
#define VOLUME_DOC_MAX (1 << 20)
#define MOUNTINFO_MAX ((size_t)16 << 20)
/* Of a walk that counts bytes: each level holds a descriptor. */
#define VOLUME_DEPTH_MAX 128

void volume_view_done(struct volume_view *v)
{
	free(v->name);
	free(v->mountpoint);
	kvs_done(&v->labels);
	kvs_done(&v->options);
	*v = (struct volume_view){ 0 };
}

void volume_views_done(struct volume_views *v)
{
	for (size_t i = 0; i < v->n; i++)
		volume_view_done(&v->v[i]);
	free(v->v);
	*v = (struct volume_views){ 0 };
}

static char *volume_dir(struct engine *e, const char *ns, const char *name)
{
	if (str_equal(ns, "default"))
		return path_join(e->config.root, "volumes", name, NULL);
	return path_join(e->config.root, "namespaces", ns, "volumes", name, NULL);
}

char *volume_path(struct engine *e, const char *ns, const char *name)
{
	autofree char *dir = volume_dir(e, ns, name);

	return path_join(dir, "_data", NULL);
}

void volume_emit(struct engine *e, const char *ns, const char *name, const char *action,
		 const char *key, const char *value)
{
	struct engine_event event = {
		.ns = ns,
		.type = "volume",
		.action = action,
		.id = name,
	};

	kvs_set(&event.attributes, "driver", "local");
	if (key)
		kvs_set(&event.attributes, key, value);
	engine_emit(e, &event);
	kvs_done(&event.attributes);
}

static void volume_lock(struct engine *e, const char *key)
{
	pthread_mutex_lock(&e->lock);
	while (map_get(&e->volumes_busy, key))
		pthread_cond_wait(&e->volumes_changed, &e->lock);
	map_set(&e->volumes_busy, key, e);
	pthread_mutex_unlock(&e->lock);
}

static void volume_unlock(struct engine *e, const char *key)
{
	pthread_mutex_lock(&e->lock);
	map_remove(&e->volumes_busy, key);
	pthread_cond_broadcast(&e->volumes_changed);
	pthread_mutex_unlock(&e->lock);
}

static bool uses_volume(const struct container *c, const char *name)
{
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		if (str_equal(m->type, "volume") && str_equal(m->source, name))
			return true;
	}
	return false;
}

/* Containers that use it; their ids, if wanted. */
static size_t volume_users(struct engine *e, const char *ns, const char *name, struct strv *ids)
{
	size_t n = 0;

	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->names) {
		struct container *c = map_value(entry);

		if (!str_equal(c->ns, ns) || !uses_volume(c, name))
			continue;
		n++;
		if (ids)
			strv_push(ids, c->id);
	}
	pthread_mutex_unlock(&e->lock);
	return n;
}

static int parse_volume(struct engine *e, const char *ns, const char *name, const char *text,
			struct volume_view *ret, struct error *err)
{
	autojson struct json *j = json_parse(text, strlen(text), VOLUME_DOC_MAX, err);

	if (!j)
		return error_wrap(err, "volume '%s'", name);
	*ret = (struct volume_view){
		.name = xstrdup(name),
		.mountpoint = volume_path(e, ns, name),
		.created_at = json_get_int(j, "createdAt", 0),
		.anonymous = json_get_bool(j, "anonymous", false),
	};
	ret->has_labels = json_get(j, "labels") != NULL;
	ret->has_options = json_get(j, "options") != NULL;
	json_get_kvs(j, "labels", &ret->labels, NULL);
	json_get_kvs(j, "options", &ret->options, NULL);
	ret->ref_count = volume_users(e, ns, name, NULL);
	return 0;
}

static int volume_load(struct engine *e, const char *ns, const char *name, struct volume_view *ret,
		       struct error *err)
{
	const struct store_ctx ctx = { .store = e->config.store, .ns = ns };
	autofree char *text = NULL;

	if (record_get(&ctx, VOLUME_KIND, name, &text, err) < 0)
		return -1;
	return parse_volume(e, ns, name, text, ret, err);
}

static int volume_make(struct engine *e, const char *ns, const char *name, const struct kvs *labels,
		       const struct kvs *options, bool anonymous, bool sync, struct error *err)
{
	const struct store_ctx ctx = { .store = e->config.store, .ns = ns };
	autofree char *path = volume_path(e, ns, name);
	autojson struct json *j = json_new_object();
	int r = fs_mkdir_p(path, 0755);

	if (r < 0)
		return error_errno(err, -r, "make volume '%s'", name);
	json_set_int(j, "createdAt", time_realtime());
	json_set_bool(j, "anonymous", anonymous);
	autokvs struct kvs all = KVS_INIT;
	if (labels)
		kvs_copy(&all, labels);
	if (anonymous)
		kvs_set(&all, "com.docker.volume.anonymous", "");
	if (labels || anonymous)
		json_set(j, "labels", json_new_kvs(&all));
	if (options)
		json_set(j, "options", json_new_kvs(options));
	autofree char *text = json_format(j, /* pretty */ false);
	if (record_put(&ctx, VOLUME_KIND, name, text, sync, err) < 0) {
		autofree char *dir = volume_dir(e, ns, name);

		/* Of a volume of that name that nobody knows any more the data stays. */
		if (rmdir(path) == 0)
			(void)rmdir(dir);
		return error_wrap(err, "make volume '%s'", name);
	}
	volume_emit(e, ns, name, "create", NULL, NULL);
	return 0;
}

/* Makes it unless it exists; ret may be NULL. */
static int volume_ensure(struct engine *e, const char *ns, const char *name,
			 const struct kvs *labels, const struct kvs *options, bool anonymous,
			 bool sync, struct volume_view *ret, struct error *err)
{
	autofree char *key = table_key(ns, name);
	struct volume_view view = { 0 };
	struct error look = ERROR_INIT;

	volume_lock(e, key);
	int r = volume_load(e, ns, name, &view, &look);
	if (r < 0 && error_is(&look, ERROR_NOT_FOUND)) {
		error_done(&look);
		r = volume_make(e, ns, name, labels, options, anonymous, sync, &look);
		if (r == 0)
			r = volume_load(e, ns, name, &view, &look);
	}
	volume_unlock(e, key);
	if (r < 0)
		return error_move(err, &look);
	if (ret)
		*ret = view;
	else
		volume_view_done(&view);
	return 0;
}

static int check_name(const char *name, struct error *err)
{
	if (name_valid(name))
		return 0;
	if (strlen(name) == 1)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "create %s: volume name is too short, names should be at least "
				 "two alphanumeric characters",
				 name);
	return error_set(
		err, ERROR_INVALID_ARGUMENT,
		"create %s: \"%s\" includes invalid characters for a local volume name, only "
		"\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a "
		"host directory, use absolute path",
		name, name);
}

int engine_volume_create(struct engine *e, const char *ns, const char *name,
			 const struct kvs *labels, const struct kvs *options,
			 struct volume_view *ret, struct error *err)
{
	char random[65];
	bool anonymous = str_empty(name);

	if (anonymous) {
		random_hex(32, random);
		name = random;
	}
	if (check_name(name, err) < 0)
		return -1;
	if (options && volume_options_check(options, err) < 0)
		return error_wrap(err, "create %s", name);
	return volume_ensure(e, ns, name, labels, options, anonymous, /* sync */ true, ret, err);
}

int engine_volume_get(struct engine *e, const char *ns, const char *name, struct volume_view *ret,
		      struct error *err)
{
	autoerror struct error look = ERROR_INIT;

	if (volume_load(e, ns, name, ret, &look) == 0)
		return 0;
	if (error_is(&look, ERROR_NOT_FOUND))
		return error_set(err, ERROR_NOT_FOUND, "get %s: no such volume", name);
	return error_move(err, &look);
}

int engine_volume_list(struct engine *e, const char *ns, struct volume_views *ret,
		       struct error *err)
{
	const struct store_ctx ctx = { .store = e->config.store, .ns = ns };
	autokvs struct kvs records = KVS_INIT;

	*ret = (struct volume_views){ 0 };
	if (record_list(&ctx, VOLUME_KIND, &records, err) < 0)
		return -1;
	for (size_t i = 0; i < records.n; i++) {
		GROW_ARRAY(ret->v, ret->n);
		if (parse_volume(e, ns, records.v[i].key, records.v[i].value, &ret->v[ret->n],
				 err) < 0) {
			volume_views_done(ret);
			return -1;
		}
		ret->n++;
	}
	return 0;
}

static int64_t tree_size(int dir_fd, const char *name, unsigned depth)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 || depth == 0 ? NULL : fdopendir(fd);
	int64_t size = 0;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st;

		if (str_equal(e->d_name, ".") || str_equal(e->d_name, "..") ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			size += tree_size(dirfd(d), e->d_name, depth - 1);
		else if (S_ISREG(st.st_mode))
			size += st.st_size;
	}
	closedir(d);
	return size;
}

int64_t engine_tree_size(int dir_fd, const char *name)
{
	return tree_size(dir_fd, name, VOLUME_DEPTH_MAX);
}

int64_t engine_volume_size(const struct volume_view *v)
{
	if (access(v->mountpoint, R_OK | X_OK) < 0)
		return -1;
	return tree_size(AT_FDCWD, v->mountpoint, VOLUME_DEPTH_MAX);
}

static int remove_locked(struct engine *e, const char *ns, const char *name, struct error *err)
{
	const struct store_ctx ctx = { .store = e->config.store, .ns = ns };
	autofree char *dir = volume_dir(e, ns, name);
	autostrv struct strv users = STRV_INIT;

	if (volume_users(e, ns, name, &users) > 0) {
		autofree char *ids = strv_join(&users, ", ");

		return error_set(err, ERROR_ABORTED, "remove %s: volume is in use - [%s]", name,
				 ids);
	}
	/* The record goes last: a removal that is cut short is seen, and can be repeated. */
	int r = fs_remove_tree(AT_FDCWD, dir);
	if (r < 0)
		return error_errno(err, -r, "remove volume '%s'", name);
	if (record_delete(&ctx, VOLUME_KIND, name, err) < 0)
		return -1;
	volume_emit(e, ns, name, "destroy", NULL, NULL);
	return 0;
}

int engine_volume_remove(struct engine *e, const char *ns, const char *name, bool force,
			 struct error *err)
{
	struct volume_view view = { 0 };
	autoerror struct error look = ERROR_INIT;

	if (engine_volume_get(e, ns, name, &view, &look) < 0) {
		if (force && error_is(&look, ERROR_NOT_FOUND))
			return 0;
		return error_move(err, &look);
	}
	volume_view_done(&view);
	autofree char *key = table_key(ns, name);
	volume_lock(e, key);
	int r = remove_locked(e, ns, name, err);
	volume_unlock(e, key);
	return r;
}

void volumes_remove_anonymous(struct container *c)
{
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];
		autoerror struct error err = ERROR_INIT;

		if (!m->anonymous || !str_equal(m->type, "volume"))
			continue;
		/* Another container may have it by volumes-from: then it stays. */
		if (engine_volume_remove(c->e, c->ns, m->source, /* force */ true, &err) < 0 &&
		    !error_is(&err, ERROR_ABORTED))
			log_warn("%s, ignoring", error_msg(&err));
	}
}

void mount_specs_done(struct mount_specs *m)
{
	for (size_t i = 0; i < m->n; i++)
		mount_spec_done(&m->v[i]);
	free(m->v);
	*m = (struct mount_specs){ 0 };
}

struct mount_spec *mount_specs_add(struct mount_specs *m, const struct mount_spec *src)
{
	GROW_ARRAY(m->v, m->n);
	mount_spec_copy(&m->v[m->n], src);
	return &m->v[m->n++];
}

static bool has_target(const struct container_config *config, const char *target)
{
	for (size_t i = 0; i < config->mounts.n; i++)
		if (str_equal(config->mounts.v[i].target, target))
			return true;
	return false;
}

static int take_volumes_from(struct engine *e, const char *ns, const char *spec,
			     struct container_config *config, struct error *err)
{
	const char *colon = strchr(spec, ':');
	autofree char *id = xstrndup(spec, colon ? (size_t)(colon - spec) : strlen(spec));
	bool read_only = colon && str_equal(colon + 1, "ro");

	if (colon && !read_only && !str_equal(colon + 1, "rw"))
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid mode: %s", colon + 1);
	CLEANUP(container_unrefp) struct container *c = container_find(e, ns, id, err);
	if (!c) {
		/* Clients take NOT_FOUND at a creation for a missing image, and pull it. */
		err->code = ERROR_INVALID_ARGUMENT;
		return -1;
	}
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		if (str_equal(m->type, "tmpfs") || has_target(config, m->target))
			continue;
		GROW_ARRAY(config->mounts.v, config->mounts.n);
		struct mount_spec *mine = &config->mounts.v[config->mounts.n++];
		mount_spec_copy(mine, m);
		mine->anonymous = false;
		mine->read_only |= read_only;
	}
	pthread_mutex_unlock(&e->lock);
	return 0;
}

int volumes_prepare_create(struct engine *e, const char *ns, struct container_config *config,
			   struct error *err)
{
	struct stat st;
	char random[65];

	for (size_t i = 0; i < config->volumes_from.n; i++)
		if (take_volumes_from(e, ns, config->volumes_from.v[i], config, err) < 0)
			return -1;
	for (size_t i = 0; i < config->mounts.n; i++) {
		struct mount_spec *m = &config->mounts.v[i];

		if (str_equal(m->type, "bind") && !m->create_source && stat(m->source, &st) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "invalid mount config for type \"bind\": bind source path "
					 "does not exist: %s",
					 m->source);
		if (!str_equal(m->type, "volume"))
			continue;
		if (str_empty(m->source)) {
			random_hex(32, random);
			str_replace(&m->source, random);
			m->anonymous = true;
		}
		if (check_name(m->source, err) < 0)
			return -1;
		if (volume_options_check(&m->volume_options, err) < 0)
			return error_wrap(err, "create %s", m->source);
	}
	return 0;
}

/* Nothing is not the same as none: Docker tells null from {}. */
static const struct kvs *given(const struct kvs *k)
{
	return k->n > 0 ? k : NULL;
}

int volumes_make(struct container *c, struct error *err)
{
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		/* Not synced: the container's record, which follows, is, and with it all before. */
		if (str_equal(m->type, "volume") &&
		    volume_ensure(c->e, c->ns, m->source, given(&m->volume_labels),
				  given(&m->volume_options), m->anonymous, /* sync */ false, NULL,
				  err) < 0)
			return -1;
	}
	return 0;
}

static bool dir_is_empty(int fd)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	bool empty = d != NULL;

	for (struct dirent *e; d && empty && (e = readdir(d));)
		empty = str_equal(e->d_name, ".") || str_equal(e->d_name, "..");
	if (d)
		closedir(d);
	return empty;
}

/* What the image has at the mount's place goes into a volume that is empty yet. */
static int fill_volume(const char *path, const struct mount_spec *m, int rootfs_fd,
		       struct error *err)
{
	autoclose int target = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (target < 0)
		return error_errno(err, errno, "open volume '%s'", m->source);
	if (m->no_copy || !dir_is_empty(target))
		return 0;
	int source = fs_open_in_root(rootfs_fd, m->target, O_RDONLY | O_DIRECTORY, 0);
	if (source == -ENOENT || source == -ENOTDIR)
		return 0;
	if (source < 0)
		return error_errno(err, -source, "open '%s' in the image", m->target);
	int r = copy_tree(source, target, err);
	close(source);
	return r < 0 ? error_wrap(err, "fill volume '%s'", m->source) : 0;
}

char *volume_source(struct container *c, const struct mount_spec *m)
{
	autofree char *path = volume_path(c->e, c->ns, m->source);
	autoclose int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (str_empty(m->sub_path))
		return TAKE_PTR(path);
	autoclose int fd = root < 0 ? -EBADF : fs_open_beneath(root, m->sub_path, O_PATH, 0);
	return fd < 0 ? NULL : path_join(path, m->sub_path, NULL);
}

/* What is seen now is compared with what got mounted (volumes_verify): between the two a container
 * that has the volume may put a symlink in the way. */
static int enter_subpath(struct mount_spec *m, char **path, struct error *err)
{
	autoclose int root = open(*path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (root < 0)
		return error_errno(err, errno, "open volume '%s'", m->source);
	autoclose int fd = fs_open_beneath(root, m->sub_path, O_PATH, 0);
	if (fd == -EXDEV)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "subpath '%s' leads out of volume '%s'", m->sub_path, m->source);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, fd < 0 ? -fd : errno,
				   "cannot access path %s/%s of volume '%s'", *path, m->sub_path,
				   m->source);
	char *whole = path_join(*path, m->sub_path, NULL);
	free(*path);
	*path = whole;
	m->expect_dev = st.st_dev;
	m->expect_ino = st.st_ino;
	return 0;
}

int volumes_verify(const struct mount_specs *m, int pid, struct error *err)
{
	for (size_t i = 0; i < m->n; i++) {
		struct stat st;

		if (!m->v[i].expect_ino)
			continue;
		autofree char *path = xasprintf("/proc/%d/root", pid);
		autoclose int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		autoclose int fd =
			root < 0 ? -EBADF : fs_open_in_root(root, m->v[i].target, O_PATH, 0);
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != m->v[i].expect_dev ||
		    st.st_ino != m->v[i].expect_ino)
			return error_set(err, ERROR_ABORTED,
					 "the subpath of the volume at '%s' has changed while it "
					 "was mounted",
					 m->v[i].target);
	}
	return 0;
}

static int mount_one(struct container *c, const struct mount_spec *m, struct error *err)
{
	autofree char *key = table_key(c->ns, m->source);
	CLEANUP(volume_view_done) struct volume_view view = { 0 };

	if (volume_ensure(c->e, c->ns, m->source, given(&m->volume_labels),
			  given(&m->volume_options), m->anonymous, /* sync */ false, &view,
			  err) < 0)
		return -1;
	if (!volume_needs_mount(&view.options))
		return 0;
	volume_lock(c->e, key);
	int r = volume_mount(m->source, view.mountpoint, &view.options, err);
	volume_unlock(c->e, key);
	return r;
}

int volumes_mount(struct container *c, struct error *err)
{
	pthread_mutex_lock(&c->e->lock);
	c->holds_volumes = true;
	pthread_mutex_unlock(&c->e->lock);
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		const struct mount_spec *m = &c->config.mounts.v[i];

		if (str_equal(m->type, "volume") && mount_one(c, m, err) < 0) {
			volumes_unmount(c);
			return -1;
		}
	}
	return 0;
}

static bool is_held(struct engine *e, const char *ns, const char *name)
{
	bool held = false;

	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->names) {
		struct container *c = map_value(entry);

		held |= c->holds_volumes && str_equal(c->ns, ns) && uses_volume(c, name);
	}
	pthread_mutex_unlock(&e->lock);
	return held;
}

static void unmount_one(struct engine *e, const char *ns, const char *name)
{
	autofree char *key = table_key(ns, name);
	CLEANUP(volume_view_done) struct volume_view view = { 0 };

	if (volume_load(e, ns, name, &view, NULL) < 0 || !volume_needs_mount(&view.options))
		return;
	volume_lock(e, key);
	if (!is_held(e, ns, name))
		volume_unmount(view.mountpoint);
	volume_unlock(e, key);
}

void volumes_unmount(struct container *c)
{
	pthread_mutex_lock(&c->e->lock);
	bool held = c->holds_volumes;
	c->holds_volumes = false;
	pthread_mutex_unlock(&c->e->lock);
	for (size_t i = 0; held && i < c->config.mounts.n; i++)
		if (str_equal(c->config.mounts.v[i].type, "volume"))
			unmount_one(c->e, c->ns, c->config.mounts.v[i].source);
}

void volumes_recover(struct engine *e)
{
	autostrv struct strv namespaces = STRV_INIT;

	pthread_mutex_lock(&e->lock);
	MAP_FOREACH (entry, &e->names) {
		struct container *c = map_value(entry);

		c->holds_volumes =
			c->s.status == CONTAINER_RUNNING || c->s.status == CONTAINER_PAUSED;
	}
	pthread_mutex_unlock(&e->lock);
	if (namespace_list(e->config.store, &namespaces, NULL) < 0)
		return;
	for (size_t i = 0; i < namespaces.n; i++) {
		CLEANUP(volume_views_done) struct volume_views views = { 0 };

		if (engine_volume_list(e, namespaces.v[i], &views, NULL) < 0)
			continue;
		for (size_t k = 0; k < views.n; k++)
			unmount_one(e, namespaces.v[i], views.v[k].name);
	}
}

static int resolve_volume(struct container *c, struct mount_spec *m, int rootfs_fd,
			  struct error *err)
{
	struct volume_view view = { 0 };

	if (volume_ensure(c->e, c->ns, m->source, given(&m->volume_labels),
			  given(&m->volume_options), m->anonymous, /* sync */ false, &view,
			  err) < 0)
		return -1;
	autofree char *path = xstrdup(view.mountpoint);
	volume_view_done(&view);
	int r = fs_mkdir_p(path, 0755);
	if (r < 0)
		return error_errno(err, -r, "make volume '%s'", m->source);
	if (str_empty(m->sub_path) ? fill_volume(path, m, rootfs_fd, err) < 0
				   : enter_subpath(m, &path, err) < 0)
		return -1;
	volume_emit(c->e, c->ns, m->source, "mount", "container", c->id);
	str_replace(&m->type, "bind");
	str_replace(&m->source, path);
	return 0;
}

/* Is anything mounted below path? Then "ro" alone would leave it writable. */
static bool has_submounts(const char *path)
{
	autobuf struct buf b = BUF_INIT(MOUNTINFO_MAX);
	size_t n = strlen(path);

	if (fs_read(AT_FDCWD, "/proc/self/mountinfo", &b) < 0)
		return true;
	while (n > 1 && path[n - 1] == '/')
		n--;
	for (const char *line = b.data; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *at = line;

		for (int field = 0; field < 4 && *at; field++)
			at += strcspn(at, " ") + 1;
		if (strncmp(at, path, n) == 0 && (n == 1 || at[n] == '/'))
			return true;
	}
	return false;
}

static int resolve_bind(struct mount_spec *m, struct error *err)
{
	struct stat st;
	int r = 0;

	if (stat(m->source, &st) < 0)
		r = -errno;
	if (r == -ENOENT && m->create_source)
		r = fs_mkdir_p(m->source, 0755);
	if (m->read_only && !m->ro_shallow && !m->non_recursive && has_submounts(m->source))
		m->recursive_read_only = true;
	return r < 0 ? error_errno(err, -r, "bind source path '%s'", m->source) : 0;
}

static size_t depth_of(const char *path)
{
	size_t n = 0;

	for (; *path; path++)
		n += path[0] == '/' && path[1] != '/' && path[1] != '\0';
	return n;
}

/* Stable: of two at one depth the later hides nothing of the earlier unless they are one place. */
void mount_specs_sort(struct mount_specs *m)
{
	for (size_t i = 1; i < m->n; i++) {
		struct mount_spec one = m->v[i];
		size_t at = i;

		for (; at > 0 && depth_of(m->v[at - 1].target) > depth_of(one.target); at--)
			m->v[at] = m->v[at - 1];
		m->v[at] = one;
	}
}

int volumes_resolve(struct container *c, int rootfs_fd, struct mount_specs *ret, struct error *err)
{
	*ret = (struct mount_specs){ 0 };
	for (size_t i = 0; i < c->config.mounts.n; i++) {
		GROW_ARRAY(ret->v, ret->n);
		struct mount_spec *m = &ret->v[ret->n++];
		int r = 0;

		mount_spec_copy(m, &c->config.mounts.v[i]);
		if (str_equal(m->type, "volume"))
			r = resolve_volume(c, m, rootfs_fd, err);
		else if (str_equal(m->type, "bind"))
			r = resolve_bind(m, err);
		if (r < 0) {
			mount_specs_done(ret);
			return -1;
		}
	}
	mount_specs_sort(ret);
	return 0;
}
