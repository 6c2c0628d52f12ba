#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* What the handler files share. Internal to api/docker. */

#include "api/docker/docker.h"
#include "base/time.h"
#include "engine/events.h"

#include <pthread.h>

/* summaries.c: entries of the list of containers, as text. */
struct summaries {
	pthread_mutex_t lock;
	struct map map; /* id */
};

struct docker_api {
	struct engine *engine;
	struct summaries summaries;
	int64_t started_at;
	char *id; /* daemon's uuid, made at first start and kept */
};

#define NAMESPACE_HEADER "X-Kistl-Namespace"
#define RAW_STREAM "application/vnd.docker.raw-stream"
#define MUX_STREAM "application/vnd.docker.multiplexed-stream"

static inline struct engine *api_engine(const struct http_request *r)
{
	return ((struct docker_api *)http_request_arg(r))->engine;
}

/* The namespace that the request looks at: a header chooses another one than "default". */
const char *api_ns(const struct http_request *r);
/* Is the client's API version at least "1.NN"? */
bool api_at_least(const struct http_request *r, int minor);
/* A number, or what Go says of something else; absent: fallback. */
int api_query_number(const struct http_request *r, const char *name, int64_t fallback, int64_t *ret,
		     struct error *err);
/* http_body_json(), but "null" is no body, and nothing else than an object is one. */
int api_body_json(struct http_request *r, struct json **ret, struct error *err);
int64_t api_query_int(const struct http_request *r, const char *name, int64_t fallback);
/* "" and absent are NULL. */
const char *api_query(const struct http_request *r, const char *name);

/* Docker's filters parameter: {"label":["a=b"]} or {"label":{"a=b":true}}. */
struct filters {
	struct json *doc; /* NULL: none */
};

int filters_parse(const struct http_request *r, const char *const *allowed, struct filters *ret,
		  struct error *err);
void filters_done(struct filters *f);
/* Values of one filter, calls until fn returns true; absent filter: true. */
bool filters_any(const struct filters *f, const char *name,
		 bool (*fn)(const char *value, const void *arg), const void *arg);
bool filters_has(const struct filters *f, const char *name);
/* Exact match of one value; absent filter: true. */
bool filters_match(const struct filters *f, const char *name, const char *value);
/* All "label" values: key, or key=value. */
bool filters_labels(const struct filters *f, const struct kvs *labels);

/* Names of Docker's documents. */
void json_set_time(struct json *obj, const char *key, int64_t ns); /* 0: Docker's zero time */
struct json *json_new_keys(const struct strv *keys);		   /* {"80/tcp":{}} */
/* NULL when the list is empty, as Go writes nil slices. */
struct json *json_strv_or_null(const struct strv *s);
char *exposed_key(const char *spec); /* "80" -> "80/tcp" */

/* create.c: a request body into the engine's configuration and the extension kept with it. */
struct create_request {
	struct container_config config;
	struct json *extension; /* {"Config":…,"HostConfig":…} */
	struct strv entrypoint, cmd;
	bool entrypoint_set;
};

int create_request_parse(const struct json *body, struct create_request *ret, struct error *err);
void create_request_done(struct create_request *c);
/* create-mounts.c */
struct mount_requests {
	const struct strv *binds;
	const struct json *mounts;
	const struct kvs *tmpfs;
	const struct json *volumes;
};

int create_mounts(const struct mount_requests *m, struct container_config *c, struct error *err);
/* Docker's words for a volume driver that there is not; "" and "local" there are. */
int create_volume_driver(const char *volume, const char *driver, struct error *err);
int resources_parse(const struct json *host_config, struct resources *ret, struct error *err);

/* X-Registry-Auth: base64url JSON; absent or empty: NULL and success. */
int registry_auth_parse(const char *header, struct registry_auth *ret, bool *ret_given,
			struct error *err);

/* images.c */
int64_t image_shown_size(const struct image_details *d);
/* What all these images' layers take, each counted once. */
int64_t images_layers_size(const struct image_details_list *images);
/* Of one of them: what it has in common with others. */
int64_t image_shared_size(const struct image_details_list *images, size_t index);

void summaries_init(struct summaries *s);
void summaries_done(struct summaries *s);
/* The JSON array of these containers. */
void summaries_format(struct docker_api *d, const char *ns, const struct container_glances *glances,
		      struct buf *out);

/* view.c */
struct json *container_inspect_document(const struct docker_api *d, const struct container_view *v);
struct json *container_summary_document(const struct container_view *v);
/* SizeRw, and SizeRootFs with the image's layers; what cannot be told is 0. */
void container_sizes(const struct docker_api *d, const struct container_view *v, struct json *j);
/* As lists have it: without a size that is 0. */
void container_list_sizes(const struct docker_api *d, const struct container_view *v,
			  struct json *j);
char *container_status_text(const struct container_view *v, int64_t now);

/* view-network.c */
/* EndpointSettings; null leaves s as it is. The network's name is kept. */
int endpoint_settings_parse(const struct json *j, struct endpoint_spec *s, struct error *err);
struct json *container_networks_document(const struct container_view *v);
struct json *container_network_settings(const struct container_view *v);
struct json *container_ports_summary(const struct container_view *v);
/* Is fn true of one of its published ports? */
bool container_publishes(const struct container_view *v,
			 bool (*fn)(const struct port_mapping *p, const void *arg),
			 const void *arg);

/* view-host.c */
struct json *container_host_document(const struct docker_api *d, const struct container_view *v);
struct json *container_driver_document(const struct docker_api *d, const struct container_view *v);

/* Handlers, by file. */
#define HANDLER(name) int docker_##name(struct http_request *r, struct error *err)
HANDLER(containers_list);
HANDLER(containers_create);
HANDLER(container_inspect);
HANDLER(container_start);
HANDLER(container_stop);
HANDLER(container_restart);
HANDLER(container_kill);
HANDLER(container_pause);
HANDLER(container_unpause);
HANDLER(container_rename);
HANDLER(container_update);
HANDLER(container_remove);
HANDLER(container_resize);
HANDLER(container_top);
HANDLER(containers_prune);
HANDLER(container_wait);
HANDLER(container_attach);
HANDLER(container_attach_ws);
HANDLER(container_logs);
HANDLER(container_stats);
HANDLER(exec_create);
HANDLER(exec_start);
HANDLER(exec_inspect);
HANDLER(exec_resize);
HANDLER(container_changes);
HANDLER(commit);
HANDLER(images_import); /* images_create with fromSrc */
HANDLER(container_export);
HANDLER(archive_head);
HANDLER(archive_get);
HANDLER(archive_put);
HANDLER(images_list);
HANDLER(images_create);
HANDLER(image_inspect);
HANDLER(image_history);
HANDLER(image_push_handler);
HANDLER(image_tag_handler);
HANDLER(image_delete_handler);
HANDLER(images_load);
HANDLER(images_get);
HANDLER(images_prune);
HANDLER(networks_list);
HANDLER(network_inspect);
HANDLER(networks_create);
HANDLER(network_delete);
HANDLER(network_connect);
HANDLER(network_disconnect);
HANDLER(networks_prune);
HANDLER(volumes_list);
HANDLER(volumes_create);
HANDLER(volume_inspect);
HANDLER(volume_delete);
HANDLER(volumes_prune);
HANDLER(system_ping);
HANDLER(system_version);
HANDLER(system_info);
HANDLER(system_auth);
HANDLER(system_df);
HANDLER(system_events);
HANDLER(unsupported);
HANDLER(swarm);
HANDLER(plugins_list);
HANDLER(build_prune);
HANDLER(no_swarm);
HANDLER(not_locked);
HANDLER(volume_update);
HANDLER(experimental);
HANDLER(plugin);
HANDLER(image_attestations);
HANDLER(distribution_inspect);
HANDLER(images_search);
/* An image's health check as inspect shows it. */
struct json *image_health_document(const struct healthcheck *h);
