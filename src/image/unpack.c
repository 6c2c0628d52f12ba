/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "image/pipeline.h"

#include <stdio.h>

/* The chain is kept by a label on the config, from now on. */
static int keep_chain(const struct store_ctx *c, const struct stored_image *stored,
		      const char *snapshotter, const char *chain, struct error *err)
{
	autofree char *key = xasprintf(LABEL_GC_SNAPSHOT "%s", snapshotter);
	autokvs struct kvs labels = KVS_INIT;

	if (!*chain)
		return 0;
	kvs_set(&labels, key, chain);
	return content_set_labels(c, stored->manifest.config.digest, &labels, err);
}

static int unpack(struct image_service *s, const struct transfer *t, const struct store_ctx *c,
		  const struct image *image, const char *snapshotter, char *ret_chain,
		  struct error *err)
{
	autostored struct stored_image stored = STORED_IMAGE_INIT;
	autoerror struct error why = ERROR_INIT;
	struct pipeline p = PIPELINE_INIT;
	size_t n;
	int r;

	if (stored_image_load(c, &image->target, t->platform, &stored, err) < 0)
		return -1;
	p.service = s;
	p.ctx = *c;
	p.transfer = t;
	p.snapshotter = snapshotter;
	n = stored.config.diff_ids.n;
	ret_chain[0] = '\0';
	if (n > 0)
		image_config_chain_id(&stored.config, n, ret_chain);
	r = pipeline_prepare(&p, &stored.manifest, &stored.config, &why);
	if (r == 0)
		r = pipeline_run(&p, &why);
	if (r == 0)
		r = keep_chain(c, &stored, snapshotter, ret_chain, &why);
	pipeline_done(&p, &why);
	return r < 0 ? error_move(err, &why) : 0;
}

int image_unpack(struct image_service *s, const struct transfer *t, const struct image *image,
		 const char *snapshotter, char *ret_chain, struct error *err)
{
	char lease[LEASE_ID_MAX];
	const struct store_ctx c = { .store = s->store, .ns = t->ns, .lease = lease };
	char chain[DIGEST_MAX];
	int r;

	if (!snapshotter)
		snapshotter = store_default_snapshotter(s->store);
	if (transfer_lease(s, t->ns, lease, err) < 0)
		return -1;
	r = unpack(s, t, &c, image, snapshotter, chain, err);
	transfer_lease_end(s, t->ns, lease);
	if (r < 0)
		return error_wrap(err, "image '%s'", image->name);
	if (ret_chain)
		snprintf(ret_chain, DIGEST_MAX, "%s", chain);
	return 0;
}
