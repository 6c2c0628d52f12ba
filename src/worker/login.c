/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kistl-image login: the API's root with the credentials. A token server may hand out an identity
 * token, which is kept instead of the password.
 */
#include "base/mem.h"
#include "worker/channel.h"
#include "worker/registry.h"
#include "worker/retry.h"
#include "worker/verbs.h"

#define REPLY_MAX (64 << 10)

static int login_at(struct registry *r, struct endpoint *e, bool last, struct error *err)
{
	autoresponse struct http_response response = HTTP_RESPONSE_INIT(REPLY_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = xasprintf("%s/", e->url);

	q.method = "GET";
	q.url = url;
	if (registry_request(r, e, &q, "", last, &response, err) < 0)
		return -1;
	return response.status == 200 ? 0 : http_status_error(&q, &response, err);
}

/* A host's second scheme is asked only when the first does not answer. */
static int login_any(struct registry *r, struct endpoint **ret, struct error *err)
{
	autoerror struct error first = ERROR_INIT;

	for (size_t i = 0; i < r->n; i++) {
		struct endpoint *e = &r->endpoints[i];
		autoerror struct error why = ERROR_INIT;

		if (registry_is_alternate(r, i))
			continue;
		if (login_at(r, e, i + 1 == r->n, &why) == 0) {
			*ret = e;
			return 0;
		}
		if (first.code == ERROR_OK || why.code != ERROR_UNAVAILABLE)
			error_move(&first, &why);
	}
	return error_move(err, &first);
}

int worker_login(int sock, struct error *err)
{
	autoworkermessage struct worker_message m = WORKER_MESSAGE_INIT;
	const struct sandbox sandbox = { .phase = SANDBOX_NETWORK };
	struct registry *r; /* until the process ends */
	struct endpoint *e = NULL;
	const char *token;
	struct json *j;

	if (worker_recv(sock, &m, err) < 0)
		return -1;
	if (!str_equal(json_get_string(m.json, "op"), "login"))
		return error_set(err, ERROR_INTERNAL, "unexpected message");
	r = registry_new(m.json, /* login= */ true, err);
	if (!r || worker_start(sock, &sandbox, err) < 0 || login_any(r, &e, err) < 0)
		return -1;
	token = auth_identity_token(e->auth);
	j = channel_event("token", -1);
	json_set_string(j, "identity_token", token ? token : "");
	return worker_send(sock, j, NULL, 0, err);
}
