/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_save: an OCI layout whose blobs a docker manifest.json points into as well, so that old and
 * new tools read it. The documents are made here, the tar by a worker.
 */
#include "base/mem.h"
#include "image/tree.h"
#include "image/worker.h"
#include "oci/digest.h"

#include <poll.h>
#include <string.h>

struct save {
	struct image_service *service;
	struct store_ctx ctx;
	struct cancel *cancel;
	struct worker worker;
	struct map written;  /* digests */
	struct json *index;  /* manifests of index.json */
	struct json *docker; /* manifest.json */
	struct map ids;	     /* config digest -> its entry in docker, borrowed */
};

static void save_done(struct save *s)
{
	worker_end(&s->worker);
	map_done(&s->written);
	map_done(&s->ids);
	json_unref(s->index);
	json_unref(s->docker);
}

/* The worker reads only as fast as its output is taken. */
static int wait_writable(struct save *s, struct error *err)
{
	struct pollfd p[2] = {
		{ .fd = s->worker.sock, .events = POLLOUT },
		{ .fd = s->cancel ? cancel_fd(s->cancel) : -1, .events = POLLIN },
	};

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
		if (p[1].revents)
			return error_set(err, ERROR_CANCELLED, "cancelled");
		if (p[0].revents)
			return 0;
	}
}

static int send_file(struct save *s, const char *path, int fd, int64_t size, struct error *err)
{
	struct json *j;

	if (wait_writable(s, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "op", "file");
	json_set_string(j, "path", path);
	json_set_int(j, "size", size);
	return worker_tell(&s->worker, j, &fd, 1, err);
}

static int send_text(struct save *s, const char *path, const char *text, struct error *err)
{
	size_t len = strlen(text);
	autoclose int fd = worker_memfd(text, len, err);

	return fd < 0 ? -1 : send_file(s, path, fd, (int64_t)len, err);
}

static int send_json(struct save *s, const char *path, const struct json *j, struct error *err)
{
	autofree char *text = json_format(j, false);

	return send_text(s, path, text, err);
}

static int send_blobs(struct save *s, const struct descriptors *list, struct error *err)
{
	for (size_t i = 0; i < list->n; i++) {
		const char *digest = list->v[i].digest;
		autofree char *path = digest_blob_path(digest);
		autoclose int fd = -EBADF;
		int64_t size;

		if (map_get(&s->written, digest))
			continue;
		fd = content_open(&s->ctx, digest, &size, err);
		if (fd < 0 || send_file(s, path, fd, size, err) < 0)
			return -1;
		map_set(&s->written, digest, s);
	}
	return 0;
}

/* --- documents --- */

static void add_to_index(struct save *s, const struct image_tree *t, const char *name)
{
	struct descriptor d = { .media_type = t->root.media_type,
				.digest = t->root.digest,
				.size = t->root.size };
	autoreference struct reference ref = REFERENCE_INIT;

	if (name && reference_parse(name, &ref, NULL) == 0) {
		kvs_set(&d.annotations, "io.containerd.image.name", name);
		if (ref.tag)
			kvs_set(&d.annotations, "org.opencontainers.image.ref.name", ref.tag);
	}
	json_add(s->index, descriptor_to_json(&d));
	kvs_done(&d.annotations);
}

static void add_to_docker(struct save *s, const struct image_tree *t, const char *familiar)
{
	const char *id = t->image.manifest.config.digest;
	struct json *entry = map_get(&s->ids, id);
	struct json *layers, *tags;
	autofree char *config = digest_blob_path(id);

	if (!entry) {
		entry = json_new_object();
		layers = json_new_array();
		for (size_t i = 0; i < t->image.manifest.layers.n; i++) {
			autofree char *path =
				digest_blob_path(t->image.manifest.layers.v[i].digest);

			json_add(layers, json_new_string(path));
		}
		json_set_string(entry, "Config", config);
		json_set(entry, "RepoTags", json_new_array());
		json_set(entry, "Layers", layers);
		json_add(s->docker, entry);
		map_set(&s->ids, id, entry);
	}
	tags = json_get(entry, "RepoTags");
	if (familiar)
		json_add(tags, json_new_string(familiar));
}

/* By name: that name is in the archive; by id or digest: none. */
static int save_image(struct save *s, const char *name, struct error *err)
{
	struct image_details d = { 0 };
	autotree struct image_tree t = IMAGE_TREE_INIT;
	autoreference struct reference ref = REFERENCE_INIT;
	autofree char *full = NULL;
	autofree char *familiar = NULL;
	bool by_name = false;
	int r;

	if (image_lookup(s->service, s->ctx.ns, name, &d, err) < 0)
		return -1;
	if (reference_parse(name, &ref, NULL) == 0 && !ref.digest) {
		reference_default_tag(&ref);
		full = reference_string(&ref);
		familiar = reference_familiar(&ref);
		by_name = str_equal(full, d.image.name);
	}
	r = image_tree_load(&s->ctx, &d.image.target, NULL, &t, err);
	image_details_done(&d);
	if (r < 0)
		return error_wrap(err, "image '%s'", name);
	if (send_blobs(s, &t.blobs, err) < 0 || send_blobs(s, &t.documents, err) < 0)
		return -1;
	add_to_index(s, &t, by_name ? full : NULL);
	add_to_docker(s, &t, by_name ? familiar : NULL);
	return 0;
}

static int finish(struct save *s, struct error *err)
{
	autojson struct json *index = json_new_object();
	struct json *end;

	json_set_int(index, "schemaVersion", 2);
	json_set_string(index, "mediaType", MEDIA_OCI_INDEX);
	json_set(index, "manifests", json_ref(s->index));
	if (send_json(s, "index.json", index, err) < 0 ||
	    send_json(s, "manifest.json", s->docker, err) < 0 ||
	    send_text(s, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err) < 0 ||
	    wait_writable(s, err) < 0)
		return -1;
	end = json_new_object();
	json_set_string(end, "op", "end");
	if (worker_tell(&s->worker, end, NULL, 0, err) < 0)
		return -1;
	while (!s->worker.done) {
		autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;

		if (worker_next(&s->worker, s->cancel, &m, err) < 0)
			return -1;
	}
	return 0;
}

int image_save(struct image_service *service, const char *ns, const struct strv *names, int output,
	       struct cancel *cancel, struct error *err)
{
	CLEANUP(save_done)
	struct save s = {
		.service = service,
		.ctx = { .store = service->store, .ns = ns },
		.cancel = cancel,
		.worker = WORKER_INIT,
		.index = json_new_array(),
		.docker = json_new_array(),
	};
	struct json *start;

	/* An unknown name should not leave half an archive. */
	for (size_t i = 0; i < names->n; i++) {
		struct image_details d = { 0 };

		if (image_lookup(service, ns, names->v[i], &d, err) < 0) {
			/* Docker's words here lack the tag that it looked for. */
			if (error_is(err, ERROR_NOT_FOUND))
				error_set(err, ERROR_NOT_FOUND, "No such image: %s", names->v[i]);
			return -1;
		}
		image_details_done(&d);
	}
	if (worker_spawn(&s.worker, service->worker, "save", err) < 0)
		return -1;
	start = json_new_object();
	json_set_string(start, "op", "save");
	if (worker_tell(&s.worker, start, &output, 1, err) < 0)
		return -1;
	for (size_t i = 0; i < names->n; i++)
		if (save_image(&s, names->v[i], err) < 0)
			return -1;
	return finish(&s, err);
}
