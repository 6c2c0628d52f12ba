/* SPDX-License-Identifier: Apache-2.0 */
/* image_load: blobs as the worker finds them, then for each image its snapshots and names. */
#include "base/mem.h"
#include "image/internal.h"
#include "image/tree.h"
#include "image/worker.h"
#include "oci/digest.h"

#include <stdio.h>

#define IMAGES_MAX 1000

struct load {
	struct image_service *service;
	const struct transfer *transfer;
	struct store_ctx ctx;
	struct worker worker;
	struct strv *names;
	size_t images;
};

static int take_blob(struct load *l, const struct worker_message *m, struct error *err)
{
	CLEANUP(descriptor_done) struct descriptor d = { 0 };

	if (m->n_fds < 1 || descriptor_from_json(json_get(m->json, "descriptor"), &d, err) < 0)
		return error_wrap(err, "kistl-image load: blob");
	/* Documents are hashed again: the whole store believes them. */
	return content_adopt_file(&l->ctx, m->fds[0], d.digest, d.size,
				  /* verified= */ d.size > OCI_MANIFEST_MAX, NULL, err);
}

static void say(struct load *l, const char *fmt, const char *what)
{
	autofree char *text = xasprintf("%s%s", fmt, what);

	transfer_progress(l->transfer, PROGRESS_MESSAGE, NULL, text, 0, 0);
}

static int name_image(struct load *l, const struct descriptor *target, const char *name,
		      struct error *err)
{
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *full = NULL;
	autofree char *familiar = NULL;
	struct image image = { .target = *target };

	if (reference_parse(name, &ref, err) < 0)
		return error_wrap(err, "name '%.256s' in the archive", name);
	reference_default_tag(&ref);
	full = reference_string(&ref);
	familiar = reference_familiar(&ref);
	image.name = full;
	if (image_record_replace(l->service, &l->ctx, &image, NULL, err) < 0)
		return -1;
	say(l, "Loaded image: ", familiar);
	if (l->names)
		strv_push(l->names, full);
	return 0;
}

/* Without a name: found by its id. */
static int keep_nameless(struct load *l, const struct descriptor *target, struct error *err)
{
	autostored struct stored_image stored = STORED_IMAGE_INIT;
	autofree char *name = xasprintf(DANGLING_PREFIX "%s", target->digest);
	struct image image = { .name = name, .target = *target };

	if (stored_image_load(&l->ctx, target, l->transfer->platform, &stored, err) < 0 ||
	    image_put(&l->ctx, &image, err) < 0)
		return -1;
	say(l, "Loaded image ID: ", stored.manifest.config.digest);
	if (l->names)
		strv_push(l->names, stored.manifest.config.digest);
	return 0;
}

static int take_image(struct load *l, const struct worker_message *m, struct error *err)
{
	CLEANUP(descriptor_done) struct descriptor d = { 0 };
	autostrv struct strv names = STRV_INIT;
	struct image image = { .name = NULL };

	if (++l->images > IMAGES_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED,
				 "more than %d images in the archive", IMAGES_MAX);
	if (descriptor_from_json(json_get(m->json, "descriptor"), &d, err) < 0 ||
	    json_get_strv(m->json, "names", &names, err) < 0)
		return error_wrap(err, "kistl-image load: image");
	/* Of the worker's words only these are kept, not its annotations. */
	image.target = (struct descriptor){ .media_type = d.media_type,
					    .digest = d.digest,
					    .size = d.size };
	image.name = names.n ? names.v[0] : d.digest;
	if (image_tree_label(&l->ctx, &d, err) < 0 ||
	    image_unpack(l->service, l->transfer, &image, NULL, NULL, err) < 0)
		return -1;
	for (size_t i = 0; i < names.n; i++)
		if (name_image(l, &image.target, names.v[i], err) < 0)
			return -1;
	return names.n ? 0 : keep_nameless(l, &image.target, err);
}

static int run(struct load *l, int input, struct error *err)
{
	autoclose int staging = content_staging_fd(l->service->store, err);
	autofree char *platform =
		l->transfer->platform ? platform_string(l->transfer->platform) : NULL;
	struct json *message;

	if (staging < 0 || worker_spawn(&l->worker, l->service->worker, "load", err) < 0)
		return -1;
	const int fds[] = { input, staging };

	message = json_new_object();
	json_set_string(message, "op", "load");
	json_set_string(message, "platform", platform ? platform : "");
	if (worker_tell(&l->worker, message, fds, 2, err) < 0)
		return -1;
	while (!l->worker.done) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
		int r = 0;

		if (worker_next(&l->worker, l->transfer->cancel, &m, err) < 0)
			return -1;
		if (str_equal(worker_event(&m), "blob"))
			r = take_blob(l, &m, err);
		else if (str_equal(worker_event(&m), "image"))
			r = take_image(l, &m, err);
		if (r < 0)
			return -1;
	}
	if (l->images == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "the archive has no image");
	return 0;
}

int image_load(struct image_service *s, const struct transfer *t, int input, struct strv *ret_names,
	       struct error *err)
{
	char lease[LEASE_ID_MAX];
	struct load l = {
		.service = s,
		.transfer = t,
		.ctx = { .store = s->store, .ns = t->ns, .lease = lease },
		.worker = WORKER_INIT,
		.names = ret_names,
	};
	int r;

	if (transfer_lease(s, t->ns, lease, err) < 0)
		return -1;
	r = run(&l, input, err);
	worker_end(&l.worker);
	transfer_lease_end(s, t->ns, lease);
	return r;
}
