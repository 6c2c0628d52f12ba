/* SPDX-License-Identifier: Apache-2.0 */
#include "api/docker/docker.h"

#include "api/docker/internal.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/random.h"
#include "store/containers.h"

#include <string.h>

#define BODY_MAX (4 << 20)

static const struct http_route routes[] = {
	{ "GET", "/_ping", docker_system_ping, HTTP_ON_LOOP, 0 },
	{ "HEAD", "/_ping", docker_system_ping, HTTP_ON_LOOP, 0 },
	{ "GET", "/version", docker_system_version, 0, 0 },
	{ "GET", "/info", docker_system_info, 0, 0 },
	{ "POST", "/auth", docker_system_auth, HTTP_TRANSFER, 0 },
	{ "GET", "/system/df", docker_system_df, 0, 0 },
	{ "GET", "/events", docker_system_events, 0, 0 },
	{ "POST", "/build/prune", docker_build_prune, 0, 0 },

	{ "POST", "/commit", docker_commit, HTTP_TRANSFER, BODY_MAX },
	{ "GET", "/containers/json", docker_containers_list, 0, 0 },
	{ "POST", "/containers/create", docker_containers_create, 0, BODY_MAX },
	{ "POST", "/containers/prune", docker_containers_prune, 0, 0 },
	{ "GET", "/containers/{id}/json", docker_container_inspect, 0, 0 },
	{ "GET", "/containers/{id}/top", docker_container_top, 0, 0 },
	{ "GET", "/containers/{id}/logs", docker_container_logs, 0, 0 },
	{ "GET", "/containers/{id}/stats", docker_container_stats, 0, 0 },
	{ "POST", "/containers/{id}/resize", docker_container_resize, 0, 0 },
	{ "POST", "/containers/{id}/start", docker_container_start, 0, 0 },
	{ "POST", "/containers/{id}/stop", docker_container_stop, 0, 0 },
	{ "POST", "/containers/{id}/restart", docker_container_restart, 0, 0 },
	{ "POST", "/containers/{id}/kill", docker_container_kill, 0, 0 },
	{ "POST", "/containers/{id}/update", docker_container_update, 0, BODY_MAX },
	{ "POST", "/containers/{id}/rename", docker_container_rename, 0, 0 },
	{ "POST", "/containers/{id}/pause", docker_container_pause, 0, 0 },
	{ "POST", "/containers/{id}/unpause", docker_container_unpause, 0, 0 },
	{ "POST", "/containers/{id}/attach", docker_container_attach, 0, 0 },
	{ "POST", "/containers/{id}/wait", docker_container_wait, 0, 0 },
	{ "DELETE", "/containers/{id}", docker_container_remove, 0, 0 },
	{ "POST", "/containers/{id}/exec", docker_exec_create, 0, BODY_MAX },
	{ "GET", "/containers/{id}/changes", docker_container_changes, 0, 0 },
	{ "GET", "/containers/{id}/export", docker_container_export, HTTP_TRANSFER, 0 },
	{ "HEAD", "/containers/{id}/archive", docker_archive_head, 0, 0 },
	{ "GET", "/containers/{id}/archive", docker_archive_get, HTTP_TRANSFER, 0 },
	{ "PUT", "/containers/{id}/archive", docker_archive_put, HTTP_TRANSFER | HTTP_STREAM_BODY,
	  0 },
	{ "POST", "/exec/{id}/start", docker_exec_start, 0, 0 },
	{ "POST", "/exec/{id}/resize", docker_exec_resize, 0, 0 },
	{ "GET", "/exec/{id}/json", docker_exec_inspect, 0, 0 },

	{ "GET", "/images/json", docker_images_list, 0, 0 },
	{ "POST", "/images/create", docker_images_create, HTTP_TRANSFER | HTTP_STREAM_BODY, 0 },
	{ "POST", "/images/load", docker_images_load, HTTP_TRANSFER | HTTP_STREAM_BODY, 0 },
	{ "GET", "/images/get", docker_images_get, HTTP_TRANSFER, 0 },
	{ "POST", "/images/prune", docker_images_prune, 0, 0 },
	{ "GET", "/images/{name...}/get", docker_images_get, HTTP_TRANSFER, 0 },
	{ "GET", "/images/search", docker_images_search, HTTP_TRANSFER, 0 },
	{ "GET", "/images/{name...}/json", docker_image_inspect, 0, 0 },
	{ "GET", "/images/{name...}/attestations", docker_image_attestations, 0, 0 },
	{ "GET", "/images/{name...}/history", docker_image_history, 0, 0 },
	{ "POST", "/images/{name...}/push", docker_image_push_handler, HTTP_TRANSFER, 0 },
	{ "POST", "/images/{name...}/tag", docker_image_tag_handler, 0, 0 },
	{ "DELETE", "/images/{name...}", docker_image_delete_handler, 0, 0 },

	{ "GET", "/networks", docker_networks_list, 0, 0 },
	{ "POST", "/networks/create", docker_networks_create, 0, BODY_MAX },
	{ "POST", "/networks/prune", docker_networks_prune, 0, 0 },
	{ "GET", "/networks/{id}", docker_network_inspect, 0, 0 },
	{ "DELETE", "/networks/{id}", docker_network_delete, 0, 0 },

	{ "GET", "/volumes", docker_volumes_list, 0, 0 },
	{ "POST", "/volumes/create", docker_volumes_create, 0, BODY_MAX },
	{ "POST", "/volumes/prune", docker_volumes_prune, 0, 0 },
	{ "GET", "/volumes/{name}", docker_volume_inspect, 0, 0 },
	{ "DELETE", "/volumes/{name}", docker_volume_delete, 0, 0 },

	{ "GET", "/distribution/{name...}/json", docker_distribution_inspect, HTTP_TRANSFER, 0 },
	{ "GET", "/plugins", docker_plugins_list, 0, 0 },
	{ "GET", "/plugins/privileges", docker_unsupported, 0, 0 },
	{ "POST", "/plugins/pull", docker_unsupported, 0, BODY_MAX },
	{ "POST", "/plugins/create", docker_unsupported, HTTP_STREAM_BODY, 0 },
	{ "GET", "/plugins/{name...}/json", docker_plugin, 0, 0 },
	{ "POST", "/plugins/{name...}/enable", docker_plugin, 0, 0 },
	{ "POST", "/plugins/{name...}/disable", docker_plugin, 0, 0 },
	{ "POST", "/plugins/{name...}/upgrade", docker_plugin, 0, BODY_MAX },
	{ "POST", "/plugins/{name...}/push", docker_plugin, 0, 0 },
	{ "POST", "/plugins/{name...}/set", docker_plugin, 0, BODY_MAX },
	{ "DELETE", "/plugins/{name...}", docker_plugin, 0, 0 },
	{ "POST", "/build", docker_unsupported, HTTP_STREAM_BODY, 0 },
	{ "POST", "/build/cancel", docker_unsupported, 0, 0 },
	{ "POST", "/session", docker_unsupported, 0, 0 },
	{ "POST", "/grpc", docker_unsupported, 0, 0 },
	{ "GET", "/containers/{id}/attach/ws", docker_container_attach_ws, 0, 0 },
	{ "POST", "/networks/{id}/connect", docker_network_connect, 0, BODY_MAX },
	{ "POST", "/networks/{id}/disconnect", docker_network_disconnect, 0, BODY_MAX },
	{ "POST", "/containers/{id}/checkpoints", docker_experimental, 0, BODY_MAX },
	{ "GET", "/containers/{id}/checkpoints", docker_experimental, 0, 0 },
	{ "DELETE", "/containers/{id}/checkpoints/{checkpoint}", docker_experimental, 0, 0 },
	{ "PUT", "/volumes/{name}", docker_volume_update, 0, BODY_MAX },
	{ "POST", "/swarm/init", docker_unsupported, 0, BODY_MAX },
	{ "POST", "/swarm/join", docker_unsupported, 0, BODY_MAX },
	{ "POST", "/swarm/leave", docker_no_swarm, 0, 0 },
	{ "POST", "/swarm/update", docker_swarm, 0, BODY_MAX },
	{ "POST", "/swarm/unlock", docker_not_locked, 0, BODY_MAX },
	{ "GET", "/swarm", docker_swarm, 0, 0 },
	{ "GET", "/swarm/unlockkey", docker_swarm, 0, 0 },
	{ "GET", "/nodes", docker_swarm, 0, 0 },
	{ "GET", "/nodes/{id}", docker_swarm, 0, 0 },
	{ "DELETE", "/nodes/{id}", docker_swarm, 0, 0 },
	{ "POST", "/nodes/{id}/update", docker_swarm, 0, BODY_MAX },
	{ "GET", "/services", docker_swarm, 0, 0 },
	{ "GET", "/services/{id}", docker_swarm, 0, 0 },
	{ "DELETE", "/services/{id}", docker_swarm, 0, 0 },
	{ "POST", "/services/{id}/update", docker_swarm, 0, BODY_MAX },
	{ "POST", "/services/create", docker_swarm, 0, BODY_MAX },
	{ "GET", "/services/{id}/logs", docker_swarm, 0, 0 },
	{ "GET", "/tasks", docker_swarm, 0, 0 },
	{ "GET", "/tasks/{id}", docker_swarm, 0, 0 },
	{ "GET", "/tasks/{id}/logs", docker_swarm, 0, 0 },
	{ "GET", "/secrets", docker_swarm, 0, 0 },
	{ "GET", "/secrets/{id}", docker_swarm, 0, 0 },
	{ "DELETE", "/secrets/{id}", docker_swarm, 0, 0 },
	{ "POST", "/secrets/{id}/update", docker_swarm, 0, BODY_MAX },
	{ "POST", "/secrets/create", docker_swarm, 0, BODY_MAX },
	{ "GET", "/configs", docker_swarm, 0, 0 },
	{ "GET", "/configs/{id}", docker_swarm, 0, 0 },
	{ "DELETE", "/configs/{id}", docker_swarm, 0, 0 },
	{ "POST", "/configs/{id}/update", docker_swarm, 0, BODY_MAX },
	{ "POST", "/configs/create", docker_swarm, 0, BODY_MAX },
	{ NULL, NULL, NULL, 0, 0 },
};

static const char *const headers[] = {
	"Api-Version",
	DOCKER_API_MAX,
	"Docker-Experimental",
	"false",
	"Ostype",
	"linux",
	"Server",
	"Kistl/" KISTL_VERSION " (linux)",
	NULL,
};

/* "1.43" to 43; -1 when it is no such thing. */
static int minor_of(const char *version)
{
	int64_t minor;

	if (strncmp(version, "1.", 2) != 0 || parse_int64(version + 2, &minor) < 0 || minor < 0 ||
	    minor > 999)
		return -1;
	return (int)minor;
}

static int strip_version(const char *path, const char **ret_rest, char ret_version[16],
			 struct error *err)
{
	size_t len = strncmp(path, "/v", 2) == 0 ? strcspn(path + 2, "/") : 0;
	int minor;

	*ret_rest = path;
	memcpy(ret_version, DOCKER_API_MAX, sizeof(DOCKER_API_MAX));
	if (len == 0 || len >= 16 || path[2 + len] != '/' || path[2] < '0' || path[2] > '9')
		return 0;
	memcpy(ret_version, path + 2, len);
	ret_version[len] = '\0';
	minor = minor_of(ret_version);
	if (minor < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid API version '%s'",
				 ret_version);
	if (minor > minor_of(DOCKER_API_MAX))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "client version %s is too new. Maximum supported API version "
				 "is " DOCKER_API_MAX,
				 ret_version);
	if (minor < minor_of(DOCKER_API_MIN))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "client version %s is too old. Minimum supported API version "
				 "is " DOCKER_API_MIN
				 ", please upgrade your client to a newer version",
				 ret_version);
	*ret_rest = path + 2 + len;
	return 0;
}

bool api_at_least(const struct http_request *r, int minor)
{
	return minor_of(http_api_version(r)) >= minor;
}

static int status_of(const struct error *err)
{
	static const int status[ERROR_CODE_MAX] = {
		[ERROR_OK] = 200,
		[ERROR_CANCELLED] = 499,
		[ERROR_UNKNOWN] = 500,
		[ERROR_INVALID_ARGUMENT] = 400,
		[ERROR_DEADLINE_EXCEEDED] = 504,
		[ERROR_NOT_FOUND] = 404,
		[ERROR_ALREADY_EXISTS] = 409,
		[ERROR_PERMISSION_DENIED] = 403,
		[ERROR_RESOURCE_EXHAUSTED] = 500,
		[ERROR_FAILED_PRECONDITION] = 409,
		[ERROR_ABORTED] = 409,
		[ERROR_OUT_OF_RANGE] = 400,
		[ERROR_UNIMPLEMENTED] = 501,
		[ERROR_INTERNAL] = 500,
		[ERROR_UNAVAILABLE] = 503,
		[ERROR_DATA_LOSS] = 500,
		[ERROR_UNAUTHENTICATED] = 401,
	};

	return err->code < ERROR_CODE_MAX ? status[err->code] : 500;
}

static struct json *encode_error(const struct error *err)
{
	struct json *j = json_new_object();

	json_set_string(j, "message", error_msg(err));
	return j;
}

const char *api_ns(const struct http_request *r)
{
	const char *ns = http_header(r, NAMESPACE_HEADER);

	return ns && identifier_valid(ns) ? ns : "default";
}

const char *api_query(const struct http_request *r, const char *name)
{
	const char *value = http_query(r, name);

	return str_empty(value) ? NULL : value;
}

int api_query_number(const struct http_request *r, const char *name, int64_t fallback, int64_t *ret,
		     struct error *err)
{
	const char *value = api_query(r, name);
	int n = value ? parse_int64(value, ret) : 0;

	if (!value)
		*ret = fallback;
	if (n < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "strconv.Atoi: parsing \"%s\": %s",
				 value, n == -ERANGE ? "value out of range" : "invalid syntax");
	return 0;
}

int api_body_json(struct http_request *r, struct json **ret, struct error *err)
{
	size_t n;
	const char *body = http_body(r, &n);

	while (n > 0 && strchr(" \r\n\t", body[n - 1]))
		n--;
	if (n == 4 && memcmp(body, "null", 4) == 0)
		return 0;
	if (http_body_json(r, ret, err) < 0)
		return -1;
	if (*ret && json_type(*ret) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid JSON: the request's body is no object");
	return 0;
}

int64_t api_query_int(const struct http_request *r, const char *name, int64_t fallback)
{
	const char *value = api_query(r, name);
	int64_t v;

	return value && parse_int64(value, &v) == 0 ? v : fallback;
}

/* The daemon's identity must outlive it: Docker's clients take it for the machine's. */
static char *daemon_id(struct store *store)
{
	struct store_ctx c = { .store = store, .ns = "default" };
	char hex[33], *id = NULL;

	if (record_get(&c, "daemon", "id", &id, NULL) == 0)
		return id;
	random_hex(16, hex);
	id = xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	record_put(&c, "daemon", "id", id, /* sync */ false, NULL);
	return id;
}

struct docker_api *docker_api_new(struct engine *e)
{
	struct docker_api *d = xnew(struct docker_api);

	d->engine = e;
	d->started_at = time_realtime();
	d->id = daemon_id(engine_store(e));
	summaries_init(&d->summaries);
	return d;
}

void docker_api_free(struct docker_api *d)
{
	if (!d)
		return;
	summaries_done(&d->summaries);
	free(d->id);
	free(d);
}

void docker_api_config(struct docker_api *d, struct http_server_config *ret)
{
	ret->routes = routes;
	ret->arg = d;
	ret->strip_version = strip_version;
	ret->status_of = status_of;
	ret->encode_error = encode_error;
	ret->headers = headers;
}
