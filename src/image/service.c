/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/mem.h"
#include "image/internal.h"
#include "store/leases.h"

static void drop_stale(struct image_service *s, const char *ns)
{
	const struct store_ctx c = { .store = s->store, .ns = ns };
	struct leases all = { 0 };

	if (lease_list(&c, &all, NULL) < 0)
		return;
	for (size_t i = 0; i < all.n; i++)
		if (kvs_get(&all.v[i].labels, LEASE_LABEL))
			transfer_lease_end(s, ns, all.v[i].id);
	leases_done(&all);
}

/* Transfers that a killed daemon left: their partial downloads stay, what they held does not. */
static int recover(struct image_service *s, struct error *err)
{
	autostrv struct strv namespaces = STRV_INIT;

	if (namespace_list(s->store, &namespaces, err) < 0)
		return error_wrap(err, "look for interrupted transfers");
	for (size_t i = 0; i < namespaces.n; i++)
		drop_stale(s, namespaces.v[i]);
	return 0;
}

struct image_service *image_service_new(const struct image_service_config *config,
					struct error *err)
{
	struct image_service *s = xnew(struct image_service);

	s->store = config->store;
	s->worker = xstrdup(config->worker);
	if (config->hosts_dirs)
		strv_copy(&s->hosts_dirs, config->hosts_dirs);
	if (config->insecure)
		strv_copy(&s->insecure, config->insecure);
	s->max_downloads = config->max_downloads ? config->max_downloads : DEFAULT_DOWNLOADS;
	s->stall_ms = config->stall_timeout > 0 ? config->stall_timeout / NSEC_PER_MSEC : 60000;
	s->flights = flights_new();
	pthread_mutex_init(&s->lock, NULL);
	if (recover(s, err) < 0) {
		image_service_free(s);
		return NULL;
	}
	return s;
}

void image_service_free(struct image_service *s)
{
	if (!s)
		return;
	free(s->worker);
	strv_done(&s->hosts_dirs);
	strv_done(&s->insecure);
	flights_free(s->flights);
	map_done_values(&s->ids, free);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void registry_auth_done(struct registry_auth *a)
{
	free(a->username);
	free(a->password);
	free(a->identity_token);
	free(a->registry_token);
	free(a->server);
	*a = (struct registry_auth){ 0 };
}

void image_details_done(struct image_details *d)
{
	image_done(&d->image);
	free(d->id);
	free(d->manifest_digest);
	free(d->layer_sizes);
	image_config_done(&d->config);
	for (size_t i = 0; i < d->layers.n; i++)
		descriptor_done(&d->layers.v[i]);
	free(d->layers.v);
	strv_done(&d->tags);
	strv_done(&d->digests);
	*d = (struct image_details){ 0 };
}

void image_details_list_done(struct image_details_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		image_details_done(&l->v[i]);
	free(l->v);
	*l = (struct image_details_list){ 0 };
}

const char *image_service_worker(const struct image_service *s)
{
	return s->worker;
}
