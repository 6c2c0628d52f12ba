/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/services.h"

#include "base/mem.h"

struct services {
	const struct config *config;
};

static int do_ping(struct http_request *r, struct error *err)
{
	http_set_header(r, "Api-Version", "1.47");
	http_set_header(r, "Ostype", "linux");
	http_reply(r, 200, "text/plain; charset=utf-8", "OK", 2);
	return 0;
}

static int do_version(struct http_request *r, struct error *err)
{
	struct json *j = json_new_object();

	json_set_string(j, "Version", KISTL_VERSION);
	json_set_string(j, "ApiVersion", "1.47");
	http_reply_json(r, 200, j);
	return 0;
}

static const struct http_route routes[] = {
	{ "GET", "/_ping", do_ping, HTTP_ON_LOOP, 0 },
	{ "HEAD", "/_ping", do_ping, HTTP_ON_LOOP, 0 },
	{ "GET", "/version", do_version, 0, 0 },
	{ NULL },
};

struct services *services_start(const struct config *config, struct loop *loop, struct jobs *jobs,
				struct error *err)
{
	struct services *s = xnew(struct services);

	s->config = config;
	return s;
}

void services_http_config(struct services *s, struct http_server_config *ret)
{
	ret->routes = routes;
	ret->arg = s;
}

bool services_idle(struct services *s)
{
	return true;
}

void services_stop(struct services *s)
{
	free(s);
}
