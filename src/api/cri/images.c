/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ImageService. An image is known by its id, the digest of its config: that is what PullImage
 * answers, what lists and containers name, and what a removal by any of its references removes
 * whole.
 */
#include "api/cri/internal.h"

#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "oci/digest.h"

#include <string.h>

char *cri_canonical(struct arena *a, const char *familiar)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *full = NULL;

	if (reference_parse(familiar, &ref, NULL) == 0)
		full = reference_string(&ref);
	return message_text(a, full ? full : familiar);
}

static char **canonical_names(struct arena *a, const struct strv *names)
{
	char **out = message_array(a, names->n);

	for (size_t i = 0; i < names->n; i++)
		out[i] = cri_canonical(a, names->v[i]);
	return out;
}

/* "uid", "uid:gid", "name", "name:group": who runs it, without the group. */
static void fill_user(struct arena *a, const char *user, Runtime__V1__Image *m)
{
	autofree char *name = xstrndup(user ? user : "", user ? strcspn(user, ":") : 0);
	int64_t uid;

	if (*name && parse_int64(name, &uid) == 0)
		m->uid = cri_int64(a, uid);
	else
		m->username = message_text(a, name);
}

static bool is_pinned(const struct cri_api *api, const struct image_details *d, char *const *tags)
{
	const struct strv *pinned = api->config.pinned;

	for (size_t i = 0; pinned && i < d->tags.n; i++) {
		if (strv_contains(pinned, d->tags.v[i]) || strv_contains(pinned, tags[i]))
			return true;
	}
	return d->pinned;
}

static Runtime__V1__Image *encode_image(const struct cri_api *api, struct arena *a,
					const struct image_details *d)
{
	Runtime__V1__Image *m = CRI_NEW(a, image);

	m->id = message_text(a, d->id);
	m->n_repo_tags = d->tags.n;
	m->repo_tags = canonical_names(a, &d->tags);
	m->n_repo_digests = d->digests.n;
	m->repo_digests = canonical_names(a, &d->digests);
	m->size = (uint64_t)MAX(d->size, (int64_t)1); /* clients take 0 for an error */
	m->pinned = is_pinned(api, d, m->repo_tags);
	fill_user(a, d->config.config.user, m);
	return m;
}

/* 1: found, 0: there is no such image. */
static int look_up(const struct cri_api *api, const char *name, struct image_details *ret,
		   struct error *err)
{
	autoerror struct error why = ERROR_INIT;

	if (image_lookup(api->images, CRI_NAMESPACE, name, ret, &why) == 0)
		return 1;
	return why.code == ERROR_NOT_FOUND ? 0 : error_move(err, &why);
}

static int collect_images(struct grpc_call *c, const Runtime__V1__ImageFilter *filter,
			  Runtime__V1__Image ***ret, size_t *ret_n, struct error *err)
{
	struct arena *a = grpc_call_arena(c);
	const struct cri_api *api = cri_of(c);
	CLEANUP(image_details_list_done) struct image_details_list list = { 0 };

	if (filter && filter->image && !str_empty(filter->image->image)) {
		list.v = xnew(struct image_details);
		int found = look_up(api, filter->image->image, &list.v[0], err);
		if (found < 0)
			return -1;
		list.n = (size_t)found;
	} else if (image_list_details(api->images, CRI_NAMESPACE, &list, err) < 0) {
		return -1;
	}
	*ret = message_array(a, list.n);
	for (size_t i = 0; i < list.n; i++)
		(*ret)[i] = encode_image(api, a, &list.v[i]);
	*ret_n = list.n;
	return 0;
}

static int list_images(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		       struct error *err)
{
	const Runtime__V1__ListImagesRequest *request = (const Runtime__V1__ListImagesRequest *)m;
	Runtime__V1__ListImagesResponse *reply = (Runtime__V1__ListImagesResponse *)r;

	return collect_images(c, request->filter, &reply->images, &reply->n_images, err);
}

static int stream_images(struct grpc_call *c, const ProtobufCMessage *m, struct error *err)
{
	const Runtime__V1__StreamImagesRequest *request =
		(const Runtime__V1__StreamImagesRequest *)m;
	Runtime__V1__Image **images;
	size_t n;

	if (collect_images(c, request ? request->filter : NULL, &images, &n, err) < 0)
		return -1;
	grpc_call_send_items(c, cri_of(c)->config.loop,
			     &runtime__v1__stream_images_response__descriptor, images, n);
	return 0;
}

/* What the documents of an image say, as containerd shows it. */
static struct json *image_spec(const struct image_details *d)
{
	struct json *spec = json_new_object(), *config = json_new_object();

	if (d->config.created)
		json_set_string(spec, "created", d->config.created);
	json_set_string(spec, "architecture", d->config.platform.architecture);
	json_set_string(spec, "os", d->config.platform.os);
	if (!str_empty(d->config.config.user))
		json_set_string(config, "User", d->config.config.user);
	if (d->config.config.env.n > 0)
		json_set(config, "Env", json_new_strv(&d->config.config.env));
	if (d->config.config.entrypoint.n > 0)
		json_set(config, "Entrypoint", json_new_strv(&d->config.config.entrypoint));
	if (d->config.config.cmd.n > 0)
		json_set(config, "Cmd", json_new_strv(&d->config.config.cmd));
	if (!str_empty(d->config.config.working_dir))
		json_set_string(config, "WorkingDir", d->config.config.working_dir);
	if (d->config.config.labels.n > 0)
		json_set(config, "Labels", json_new_kvs(&d->config.config.labels));
	if (!str_empty(d->config.config.stop_signal))
		json_set_string(config, "StopSignal", d->config.config.stop_signal);
	json_set(spec, "config", config);
	struct json *rootfs = json_new_object();
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", json_new_strv(&d->config.diff_ids));
	json_set(spec, "rootfs", rootfs);
	return spec;
}

static int image_status(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
			struct error *err)
{
	const Runtime__V1__ImageStatusRequest *request = (const Runtime__V1__ImageStatusRequest *)m;
	Runtime__V1__ImageStatusResponse *reply = (Runtime__V1__ImageStatusResponse *)r;
	CLEANUP(image_details_done) struct image_details d = { 0 };
	struct arena *a = grpc_call_arena(c);
	char chain[DIGEST_MAX] = "";

	if (!request->image || str_empty(request->image->image))
		return error_set(err, ERROR_INVALID_ARGUMENT, "image.image is empty");
	int found = look_up(cri_of(c), request->image->image, &d, err);
	if (found <= 0)
		return found;
	reply->image = encode_image(cri_of(c), a, &d);
	if (!request->verbose)
		return 0;
	struct json *info = json_new_object();
	if (d.config.diff_ids.n > 0)
		image_config_chain_id(&d.config, d.config.diff_ids.n, chain);
	json_set_string(info, "chainID", chain);
	json_set(info, "imageSpec", image_spec(&d));
	cri_info(a, &runtime__v1__image_status_response__info_entry__descriptor, &reply->info,
		 &reply->n_info, "info", info);
	return 0;
}

/* Until nothing is left of it: somebody may be removing or tagging it at the same time. */
static int remove_image(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
			struct error *err)
{
	const Runtime__V1__RemoveImageRequest *request = (const Runtime__V1__RemoveImageRequest *)m;
	CLEANUP(image_details_done) struct image_details d = { 0 };
	const struct cri_api *api = cri_of(c);
	autoerror struct error why = ERROR_INIT;

	if (!request->image || str_empty(request->image->image))
		return error_set(err, ERROR_INVALID_ARGUMENT, "image.image is empty");
	int found = look_up(api, request->image->image, &d, err);
	if (found <= 0)
		return found;
	while (image_untag(api->images, CRI_NAMESPACE, d.id, /* force= */ true, NULL, NULL, &why) ==
	       0)
		;
	return why.code == ERROR_NOT_FOUND ? 0 : error_move(err, &why);
}

static Runtime__V1__FilesystemUsage *encode_usage(struct arena *a, const char *path, int64_t bytes,
						  int64_t inodes)
{
	Runtime__V1__FilesystemUsage *m = CRI_NEW(a, filesystem_usage);

	m->timestamp = time_realtime();
	m->fs_id = CRI_NEW(a, filesystem_identifier);
	m->fs_id->mountpoint = message_text(a, path);
	m->used_bytes = cri_uint64(a, (uint64_t)bytes);
	m->inodes_used = cri_uint64(a, (uint64_t)inodes);
	return m;
}

/* Images and what containers write lie below one directory: the file systems are the same. */
static int image_fs_info(struct grpc_call *c, const ProtobufCMessage *m UNUSED, ProtobufCMessage *r,
			 struct error *err)
{
	Runtime__V1__ImageFsInfoResponse *reply = (Runtime__V1__ImageFsInfoResponse *)r;
	const struct cri_api *api = cri_of(c);
	struct arena *a = grpc_call_arena(c);
	const char *root = store_root(api->store);
	struct store_usage u;

	if (store_usage(api->store, &u, err) < 0)
		return -1;
	reply->n_image_filesystems = reply->n_container_filesystems = 1;
	reply->image_filesystems = message_array(a, 1);
	reply->container_filesystems = message_array(a, 1);
	reply->image_filesystems[0] = encode_usage(a, root, u.content + u.snapshots, u.inodes);
	reply->container_filesystems[0] = encode_usage(a, root, u.snapshots, u.inodes);
	return 0;
}

const struct grpc_method cri_image_methods[] = {
	{ "ListImages", .unary = list_images, .pool = JOB_OPS },
	{ "StreamImages", .streaming = stream_images, .pool = JOB_OPS },
	{ "ImageStatus", .unary = image_status, .pool = JOB_OPS },
	{ "PullImage", .unary = cri_pull_image, .pool = JOB_TRANSFER },
	{ "RemoveImage", .unary = remove_image, .pool = JOB_OPS },
	{ "ImageFsInfo", .unary = image_fs_info, .pool = JOB_OPS },
	{ NULL },
};
