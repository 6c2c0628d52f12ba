/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-image search: Docker Hub has an interface of its own for it; other registries are asked for
 * the list of their repositories (/v2/_catalog), of which those that contain the term are given.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "worker/channel.h"
#include "worker/registry.h"
#include "worker/verbs.h"

#include <ctype.h>
#include <string.h>

#define REPLY_MAX (4 << 20)
#define HUB_SEARCH "https://index.docker.io/v1/search"

static struct json *parse_reply(const struct http_response *r, struct error *err)
{
	struct json *j = json_parse(r->body.data, r->body.len, REPLY_MAX, err);

	if (!j)
		error_wrap(err, "the registry's reply");
	return j;
}

static void copy_string(struct json *to, const struct json *from, const char *key)
{
	const char *s = json_get_string(from, key);

	json_set_string(to, key, s && worker_text_valid(s) ? s : "");
}

/* {"results":[{"name","description","star_count","is_official","is_automated"}]} */
static void take_hub(const struct json *reply, int64_t limit, struct json *out)
{
	const struct json *list = json_get(reply, "results");

	for (size_t i = 0; i < json_array_len(list) && (int64_t)i < limit; i++) {
		const struct json *one = json_array_get(list, i);
		struct json *j = json_new_object();

		copy_string(j, one, "name");
		copy_string(j, one, "description");
		json_set_int(j, "star_count", json_get_int(one, "star_count", 0));
		json_set_bool(j, "is_official", json_get_bool(one, "is_official", false));
		json_set_bool(j, "is_automated", false);
		json_add(out, j);
	}
}

/* {"repositories":["a","b/c"]} */
static void take_catalog(const struct json *reply, const char *host, const char *term,
			 int64_t limit, struct json *out)
{
	const struct json *list = json_get(reply, "repositories");

	for (size_t i = 0; i < json_array_len(list); i++) {
		const char *name = json_string(json_array_get(list, i));
		struct json *j;

		if (!name || !worker_text_valid(name) || !strstr(name, term) ||
		    (int64_t)json_array_len(out) >= limit)
			continue;
		autofree char *full = xasprintf("%s/%s", host, name);
		j = json_new_object();
		json_set_string(j, "name", full);
		json_set_string(j, "description", "");
		json_set_int(j, "star_count", 0);
		json_set_bool(j, "is_official", false);
		json_set_bool(j, "is_automated", false);
		json_add(out, j);
	}
}

static int search_hub(struct registry *r, const char *term, int64_t limit, struct json *out,
		      struct error *err)
{
	autoresponse struct http_response response = HTTP_RESPONSE_INIT(REPLY_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	const struct http_peer peer = { .dial_timeout_ms = 10000 };
	autobuf struct buf word = BUF_INIT(BUF_NO_LIMIT);

	for (const char *p = term; *p; p++)
		buf_printf(&word, isalnum((unsigned char)*p) ? "%c" : "%%%02X", (unsigned char)*p);
	autofree char *url = xasprintf(HUB_SEARCH "?q=%s&n=%lld", word.data, (long long)limit);
	q.method = "GET";
	q.url = url;
	if (http_exchange(r->http, &peer, &q, &response, err) < 0)
		return error_wrap(err, "Get \"%s\"", url);
	if (response.status != 200)
		return error_set(err, ERROR_UNAVAILABLE, "Unexpected status code %d",
				 response.status);
	autojson struct json *reply = parse_reply(&response, err);
	if (!reply)
		return -1;
	take_hub(reply, limit, out);
	return 0;
}

static int search_catalog(struct registry *r, const char *term, int64_t limit, struct json *out,
			  struct error *err)
{
	autoerror struct error first = ERROR_INIT;

	for (size_t i = 0; i < r->n; i++) {
		autoresponse struct http_response response = HTTP_RESPONSE_INIT(REPLY_MAX);
		autorequest struct http_request q = HTTP_REQUEST_INIT;
		struct endpoint *e = &r->endpoints[i];
		autofree char *url = xasprintf("%s/_catalog?n=1000", e->url);
		autoerror struct error why = ERROR_INIT;

		if (registry_is_alternate(r, i))
			continue;
		q.method = "GET";
		q.url = url;
		if (registry_request(r, e, &q, "registry:catalog:*", i + 1 == r->n, &response,
				     &why) == 0 &&
		    response.status == 200) {
			autojson struct json *reply = parse_reply(&response, err);

			if (!reply)
				return -1;
			take_catalog(reply, e->host, term, limit, out);
			return 0;
		}
		if (why.code == ERROR_OK)
			error_set(&why, ERROR_UNAVAILABLE, "Get \"%s\": status %d", url,
				  response.status);
		if (first.code == ERROR_OK)
			error_move(&first, &why);
	}
	return error_move(err, &first);
}

int worker_search(int sock, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	const struct sandbox sandbox = { .phase = SANDBOX_NETWORK };
	autojson struct json *out = json_new_array();
	struct registry *r; /* until the process ends */

	if (worker_recv(sock, &m, err) < 0)
		return -1;
	const char *term = json_get_string(m.json, "term");
	int64_t limit = json_get_int(m.json, "limit", 25);
	bool hub = json_get_bool(m.json, "hub", false);
	if (!str_equal(json_get_string(m.json, "op"), "search") || !term)
		return error_set(err, ERROR_INTERNAL, "unexpected message");
	r = registry_new(m.json, /* login= */ false, err);
	if (!r || worker_start(sock, &sandbox, err) < 0)
		return -1;
	if (hub ? search_hub(r, term, limit, out, err) < 0
		: search_catalog(r, term, limit, out, err) < 0)
		return -1;
	autofree char *text = json_format(out, /* pretty */ false);
	autoclose int fd = worker_memfd(text, strlen(text), err);
	return fd < 0 ? -1 : worker_send(sock, channel_event("found", -1), &fd, 1, err);
}
