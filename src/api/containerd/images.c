/* SPDX-License-Identifier: Apache-2.0 */
/* Images: names that point to descriptors. Whether the content is there is nobody's concern here.
 */
#include "api/containerd/internal.h"

#include "base/mem.h"
#include "oci/digest.h"
#include "store/gc.h"
#include "store/images.h"

#include "containerd.services.images.v1.pb-c.h"

#define LABEL (&containerd__services__images__v1__image__labels_entry__descriptor)

typedef Containerd__Services__Images__V1__Image image_message;

static image_message *make(struct arena *a, const struct image *i)
{
	image_message *out = CTRD_NEW(a, services__images__v1__image);

	out->name = message_text(a, i->name);
	out->labels = message_map(a, LABEL, &i->labels, &out->n_labels);
	out->target = ctrd_descriptor(a, &i->target);
	out->created_at = ctrd_time(a, i->created_at);
	out->updated_at = ctrd_time(a, i->updated_at);
	return out;
}

static int check_target(const image_message *m, struct error *err)
{
	if (!m->target || !digest_valid(m->target->digest))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "image '%s': target has no valid digest", m->name);
	if (m->target->size <= 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "image '%s': target's size must be positive", m->name);
	if (str_empty(m->target->media_type))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "image '%s': target has no media type", m->name);
	return 0;
}

static void take(const image_message *m, struct image *ret)
{
	ret->name = xstrdup(m->name);
	message_kvs(&ret->labels, m->labels, m->n_labels);
	if (!m->target)
		return;
	ret->target.media_type = xstrdup(m->target->media_type);
	ret->target.digest = xstrdup(m->target->digest);
	ret->target.size = m->target->size;
	message_kvs(&ret->target.annotations, m->target->annotations, m->target->n_annotations);
}

static int check_name(const image_message *m, struct error *err)
{
	return m && !str_empty(m->name)
		       ? 0
		       : error_set(err, ERROR_INVALID_ARGUMENT, "image name must not be empty");
}

static int get(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
	       struct error *err)
{
	const Containerd__Services__Images__V1__GetImageRequest *request =
		(const Containerd__Services__Images__V1__GetImageRequest *)m;
	autoimage struct image i = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 || image_get(&ctx, request->name, &i, err) < 0)
		return -1;
	((Containerd__Services__Images__V1__GetImageResponse *)r)->image =
		make(grpc_call_arena(c), &i);
	return 0;
}

static const char *image_field(const void *object, const struct strv *path)
{
	const struct image *i = object;

	if (str_equal(path->v[0], "labels"))
		return filter_label(&i->labels, path);
	if (str_equal(path->v[0], "annotations"))
		return filter_label(&i->target.annotations, path);
	if (path->n == 1 && str_equal(path->v[0], "name"))
		return i->name;
	if (path->n != 2 || !str_equal(path->v[0], "target"))
		return NULL;
	if (str_equal(path->v[1], "digest"))
		return i->target.digest;
	return str_equal(path->v[1], "mediatype") ? i->target.media_type : NULL;
}

static int list(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		struct error *err)
{
	const Containerd__Services__Images__V1__ListImagesRequest *request =
		(const Containerd__Services__Images__V1__ListImagesRequest *)m;
	Containerd__Services__Images__V1__ListImagesResponse *reply =
		(Containerd__Services__Images__V1__ListImagesResponse *)r;
	struct arena *a = grpc_call_arena(c);
	autoimages struct images images = { 0 };
	autofilter struct filter *f = NULL;
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0 ||
	    filter_parse(request->filters, request->n_filters, &f, err) < 0 ||
	    image_list(&ctx, &images, err) < 0)
		return -1;
	reply->images = message_array(a, images.n);
	for (size_t i = 0; i < images.n; i++) {
		if (filter_match(f, image_field, &images.v[i]))
			reply->images[reply->n_images++] = make(a, &images.v[i]);
	}
	return 0;
}

static int create(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Images__V1__CreateImageRequest *request =
		(const Containerd__Services__Images__V1__CreateImageRequest *)m;
	Containerd__Services__Images__V1__ImageCreate event =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_CREATE__INIT;
	autoimage struct image i = { 0 }, now = { 0 };
	struct store_ctx ctx;
	struct arena *a = grpc_call_arena(c);

	if (ctrd_ctx(c, &ctx, err) < 0 || check_name(request->image, err) < 0 ||
	    check_target(request->image, err) < 0)
		return -1;
	take(request->image, &i);
	if (image_create(&ctx, &i, err) < 0 || image_get(&ctx, i.name, &now, err) < 0)
		return -1;
	((Containerd__Services__Images__V1__CreateImageResponse *)r)->image = make(a, &now);
	event.name = i.name;
	event.labels = message_map(
		a, &containerd__services__images__v1__image_create__labels_entry__descriptor,
		&i.labels, &event.n_labels);
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/images/create", &event.base);
	return 0;
}

static void set_or_unset(struct kvs *have, const struct kvs *want, const char *key)
{
	const char *value = kvs_get(want, key);

	if (value)
		kvs_set(have, key, value);
	else
		kvs_unset(have, key);
}

static void replace(struct kvs *have, const struct kvs *want)
{
	kvs_done(have);
	kvs_copy(have, want);
}

static void replace_target(struct image *i, const struct image *want)
{
	descriptor_done(&i->target);
	descriptor_copy(&i->target, &want->target);
}

/* One path of the mask. */
static int apply(struct image *i, const struct image *want, const char *path, struct error *err)
{
	const char *label = ctrd_mask_key(path, "labels");
	const char *annotation = ctrd_mask_key(path, "annotations");

	if (label)
		set_or_unset(&i->labels, &want->labels, label);
	else if (annotation)
		set_or_unset(&i->target.annotations, &want->target.annotations, annotation);
	else if (str_equal(path, "labels"))
		replace(&i->labels, &want->labels);
	else if (str_equal(path, "annotations"))
		replace(&i->target.annotations, &want->target.annotations);
	else if (str_equal(path, "target"))
		replace_target(i, want);
	else
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cannot update '%.128s' of image '%s'", path, want->name);
	return 0;
}

/* No mask stands for all that there is. */
static int apply_mask(struct image *i, const image_message *m, const field_mask *mask,
		      struct error *err)
{
	static char labels[] = "labels", target[] = "target";
	static char *all[] = { labels, target };
	char *const *paths = mask && mask->n_paths > 0 ? mask->paths : all;
	size_t n = mask && mask->n_paths > 0 ? mask->n_paths : ARRAY_SIZE(all);
	autoimage struct image want = { 0 };

	take(m, &want);
	for (size_t k = 0; k < n; k++) {
		if (str_equal(paths[k], "target") && check_target(m, err) < 0)
			return -1;
		if (apply(i, &want, paths[k], err) < 0)
			return -1;
	}
	return 0;
}

static int update(struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r,
		  struct error *err)
{
	const Containerd__Services__Images__V1__UpdateImageRequest *request =
		(const Containerd__Services__Images__V1__UpdateImageRequest *)m;
	Containerd__Services__Images__V1__ImageUpdate event =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_UPDATE__INIT;
	autoimage struct image i = { 0 }, now = { 0 };
	struct arena *a = grpc_call_arena(c);
	struct store_ctx ctx;

	if (check_name(request->image, err) < 0 || ctrd_ctx(c, &ctx, err) < 0 ||
	    image_get(&ctx, request->image->name, &i, err) < 0 ||
	    apply_mask(&i, request->image, request->update_mask, err) < 0 ||
	    image_put(&ctx, &i, err) < 0 || image_get(&ctx, i.name, &now, err) < 0)
		return -1;
	((Containerd__Services__Images__V1__UpdateImageResponse *)r)->image = make(a, &now);
	event.name = i.name;
	event.labels = message_map(
		a, &containerd__services__images__v1__image_update__labels_entry__descriptor,
		&now.labels, &event.n_labels);
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/images/update", &event.base);
	return 0;
}

static int delete (struct grpc_call *c, const ProtobufCMessage *m, ProtobufCMessage *r UNUSED,
		   struct error *err)
{
	const Containerd__Services__Images__V1__DeleteImageRequest *request =
		(const Containerd__Services__Images__V1__DeleteImageRequest *)m;
	Containerd__Services__Images__V1__ImageDelete event =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_DELETE__INIT;
	autoimage struct image i = { 0 };
	struct store_ctx ctx;

	if (ctrd_ctx(c, &ctx, err) < 0)
		return -1;
	if (request->target) {
		if (image_get(&ctx, request->name, &i, err) < 0)
			return -1;
		if (!str_equal(i.target.digest, request->target->digest))
			return error_set(err, ERROR_NOT_FOUND, "image '%s' has another target",
					 request->name);
	}
	if (image_delete(&ctx, request->name, err) < 0)
		return -1;
	event.name = request->name;
	exchange_publish(ctrd_of(c)->exchange, ctx.ns, "/images/delete", &event.base);
	return request->sync ? gc_run(ctx.store, NULL, err) : 0;
}

const struct grpc_method images_methods[] = {
	{ "Get", .unary = get, .pool = JOB_OPS },
	{ "List", .unary = list, .pool = JOB_OPS },
	{ "Create", .unary = create, .pool = JOB_OPS },
	{ "Update", .unary = update, .pool = JOB_OPS },
	{ "Delete", .unary = delete, .pool = JOB_OPS },
	{ NULL },
};
