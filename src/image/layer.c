/* SPDX-License-Identifier: Apache-2.0 */
#include "image/layer.h"

#include "base/mem.h"
#include "base/random.h"
#include "image/internal.h"
#include "image/worker.h"

#include <string.h>

static int take_layer(const struct json *j, struct written_layer *ret, struct error *err)
{
	const char *digest = json_get_string(j, "digest"), *diff = json_get_string(j, "diff_id");

	ret->size = json_get_int(j, "size", -1);
	if (!digest || !diff || !digest_valid(digest) || !digest_valid(diff) || ret->size <= 0 ||
	    !str_has_prefix(digest, "sha256:") || !str_has_prefix(diff, "sha256:"))
		return error_set(err, ERROR_INTERNAL, "kistl-image: invalid layer message");
	memcpy(ret->digest, digest, strlen(digest) + 1);
	memcpy(ret->diff_id, diff, strlen(diff) + 1);
	return 0;
}

/* Until the worker is done; its one event is the layer. */
static int run_worker(struct image_service *s, const struct layer_source *from, int output,
		      struct written_layer *ret, struct error *err)
{
	const char *verb = from->input >= 0 ? "import" : "layer";
	const int fds[] = { from->input >= 0 ? from->input : from->dir, output, from->lower };
	autoworker struct worker w = WORKER_INIT;
	struct json *j;

	if (worker_spawn(&w, s->worker, verb, err) < 0)
		return -1;
	j = json_new_object();
	json_set_string(j, "op", verb);
	if (worker_tell(&w, j, fds, from->input < 0 && from->lower >= 0 ? 3 : 2, err) < 0)
		return -1;
	while (!w.done) {
		autoworkermessage struct worker_message got = WORKER_MESSAGE_INIT;

		if (worker_next(&w, from->cancel, &got, err) < 0)
			return -1;
		if (str_equal(worker_event(&got), "layer") && take_layer(got.json, ret, err) < 0)
			return -1;
	}
	return ret->digest[0] ? 0 : error_set(err, ERROR_INTERNAL, "kistl-image: no layer");
}

static int commit(struct ingest *ingest, const struct layer_source *from,
		  const struct written_layer *l, struct error *err)
{
	autoerror struct error why = ERROR_INIT;
	autokvs struct kvs labels = KVS_INIT;

	if (from->labels)
		kvs_copy(&labels, from->labels);
	kvs_set(&labels, LABEL_UNCOMPRESSED, l->diff_id);
	if (ingest_commit(ingest, l->size, l->digest, /* verified */ true, &labels, NULL, &why) <
		    0 &&
	    !error_is(&why, ERROR_ALREADY_EXISTS))
		return error_move(err, &why);
	return 0;
}

int layer_write(struct image_service *s, const struct store_ctx *c, const struct layer_source *from,
		struct written_layer *ret, struct error *err)
{
	CLEANUP(ingest_closep) struct ingest *ingest = NULL;
	char random[17];

	random_hex(8, random);
	autofree char *ref = from->ref ? xstrdup(from->ref) : xasprintf("layer-%s", random);
	*ret = (struct written_layer){ 0 };
	if (ingest_open(c, ref, 0, NULL, &ingest, err) < 0)
		return -1;
	if (run_worker(s, from, ingest_fd(ingest), ret, err) == 0 &&
	    commit(ingest, from, ret, err) == 0)
		return 0;
	ingest_close(TAKE_PTR(ingest));
	(void)ingest_abort(c, ref, NULL);
	return -1;
}
