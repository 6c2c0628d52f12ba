/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer is applied to the mounted tree, merged as its container would see it: then directories
 * that it does not describe, hard links into lower layers and deletions are the file system's
 * business. A difference is read from an overlay's upper directory where there is one.
 */

#include "image/diff.h"

#include "base/mem.h"
#include "image/internal.h"
#include "image/layer.h"
#include "image/worker.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int open_tree_of(const struct mounts *m, struct error *err)
{
	if (m->n != 1)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "%zu mounts, where exactly one can be worked on", m->n);
	return mount_open_detached(&m->v[0], err);
}

static int take_result(const struct json *j, struct applied_layer *ret, struct error *err)
{
	const char *diff = json_get_string(j, "diff_id");

	ret->size = json_get_int(j, "raw", -1);
	if (!diff || !digest_valid(diff) || strlen(diff) >= DIGEST_MAX || ret->size < 0)
		return error_set(err, ERROR_INTERNAL, "kistl-image: invalid unpacked message");
	memcpy(ret->diff_id, diff, strlen(diff) + 1);
	return 0;
}

static int run_unpack(struct worker *w, const struct descriptor *layer, const int fds[2],
		      struct cancel *cancel, struct applied_layer *ret, struct error *err)
{
	struct json *j = json_new_object();

	json_set_string(j, "op", "unpack");
	json_set_string(j, "media_type", layer->media_type);
	json_set_string(j, "whiteouts", "delete");
	if (worker_tell(w, j, fds, 2, err) < 0)
		return -1;
	while (!w->done) {
		autoworkermessage struct worker_message got = WORKER_MESSAGE_INIT;

		if (worker_next(w, cancel, &got, err) < 0)
			return -1;
		if (str_equal(worker_event(&got), "unpacked") &&
		    take_result(got.json, ret, err) < 0)
			return -1;
	}
	return ret->diff_id[0] ? 0 : error_set(err, ERROR_INTERNAL, "kistl-image: no diff id");
}

int image_apply_layer(struct image_service *s, const struct store_ctx *c,
		      const struct descriptor *layer, const struct mounts *mounts, bool sync,
		      struct cancel *cancel, struct applied_layer *ret, struct error *err)
{
	autoworker struct worker w = WORKER_INIT;
	autoclose int input = content_open(c, layer->digest, NULL, err);
	autoclose int tree = input < 0 ? -1 : open_tree_of(mounts, err);

	*ret = (struct applied_layer){ 0 };
	if (tree < 0)
		return -1;
	autoclose int dir = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, errno, "open the tree of a layer");
	if (worker_spawn(&w, s->worker, "unpack", err) < 0 ||
	    run_unpack(&w, layer, (const int[]){ input, dir }, cancel, ret, err) < 0)
		return error_wrap(err, "apply layer '%s'", layer->digest);
	if (sync && syncfs(dir) < 0)
		return error_errno(err, errno, "sync layer '%s'", layer->digest);
	return 0;
}

/* The directory of what has been changed, when the mounts say where it is. */
static const char *changes_dir(const struct mounts *lower, const struct mounts *upper)
{
	const struct mount *m = upper->n == 1 ? &upper->v[0] : NULL;

	if (!m)
		return NULL;
	for (size_t i = 0; str_equal(m->type, "overlay") && i < m->options.n; i++) {
		if (str_has_prefix(m->options.v[i], "upperdir="))
			return m->options.v[i] + strlen("upperdir=");
	}
	return str_equal(m->type, "bind") && lower->n == 0 ? m->source : NULL;
}

static int open_source(const struct mounts *lower, const struct mounts *upper,
		       struct layer_source *ret, struct error *err)
{
	const char *dir = changes_dir(lower, upper);

	if (dir) {
		ret->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return ret->dir < 0 ? error_errno(err, errno, "open '%s'", dir) : 0;
	}
	autoclose int to = open_tree_of(upper, err);
	autoclose int from = to < 0 ? -1 : open_tree_of(lower, err);
	if (from < 0)
		return -1;
	ret->dir = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret->lower = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return ret->dir < 0 || ret->lower < 0 ? error_errno(err, errno, "open the trees to compare")
					      : 0;
}

int image_diff_layer(struct image_service *s, const struct store_ctx *c, const struct mounts *lower,
		     const struct mounts *upper, const char *media_type, const char *ref,
		     const struct kvs *labels, struct cancel *cancel, struct descriptor *ret,
		     struct error *err)
{
	struct layer_source from = {
		.input = -1,
		.dir = -1,
		.lower = -1,
		.ref = str_empty(ref) ? NULL : ref,
		.labels = labels,
		.cancel = cancel,
	};
	struct written_layer made;

	if (str_empty(media_type))
		media_type = MEDIA_OCI_LAYER_GZIP;
	if (!str_equal(media_type, MEDIA_OCI_LAYER_GZIP) &&
	    !str_equal(media_type, MEDIA_DOCKER_LAYER_GZIP))
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "media type '%.128s': only layers with gzip are made", media_type);
	int r = open_source(lower, upper, &from, err);
	if (r == 0)
		r = layer_write(s, c, &from, &made, err);
	closep(&from.dir);
	closep(&from.lower);
	if (r < 0)
		return -1;
	*ret = (struct descriptor){
		.media_type = xstrdup(media_type),
		.digest = xstrdup(made.digest),
		.size = made.size,
	};
	kvs_set(&ret->annotations, LABEL_UNCOMPRESSED, made.diff_id);
	return 0;
}
