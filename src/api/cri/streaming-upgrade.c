/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a request to a session. Nothing may follow the reply before the client's first stream: Go's
 * client reads the reply through a buffer, and loses what it reads too much.
 */

#include "api/cri/streaming-internal.h"

#include "base/mem.h"
#include "http/parse.h"
#include "http/websocket.h"

#include <string.h>
#include <strings.h>

#define VERSION_HEADER "X-Stream-Protocol-Version"
#define WEBSOCKET_PORTS_MAX 64 /* a byte, or a printable character, has two channels of each */

struct protocol {
	const char *name;
	int version;
	bool base64, tunnel;
};

static const struct protocol command_spdy[] = {
	{ "v5.channel.k8s.io", 5 }, { "v4.channel.k8s.io", 4 }, { "v3.channel.k8s.io", 3 },
	{ "v2.channel.k8s.io", 2 }, { "channel.k8s.io", 1 },	{ 0 },
};

static const struct protocol command_websocket[] = {
	{ "v5.channel.k8s.io", 5 },
	{ "v4.channel.k8s.io", 4 },
	{ "v4.base64.channel.k8s.io", 4, .base64 = true },
	{ "channel.k8s.io", 1 },
	{ "base64.channel.k8s.io", 1, .base64 = true },
	{ 0 },
};

static const struct protocol forward_spdy[] = { { "portforward.k8s.io", 1 }, { 0 } };

static const struct protocol forward_websocket[] = {
	{ "SPDY/3.1+portforward.k8s.io", 1, .tunnel = true },
	{ "v4.channel.k8s.io", 4 },
	{ "v4.base64.channel.k8s.io", 4, .base64 = true },
	{ 0 },
};

/* What clients get that name no sub-protocol. */
static const struct protocol no_protocol = { "", 1 };

/* All values of a header in one list. */
static char *joined(const struct http_head *h, const char *name)
{
	struct buf b = BUF_INIT(BUF_NO_LIMIT);

	for (size_t i = 0; i < h->n_fields; i++)
		if (strcasecmp(h->fields[i].name, name) == 0)
			buf_printf(&b, "%s%s", b.len > 0 ? "," : "", h->fields[i].value);
	return buf_steal(&b, NULL);
}

static const struct protocol *choose(const struct protocol *table, const char *list)
{
	const char *names[8] = { 0 };
	size_t n = 0;

	for (; table[n].name; n++)
		names[n] = table[n].name;
	const char *name = websocket_choose(list, names);
	for (size_t i = 0; name && i < n; i++)
		if (names[i] == name)
			return &table[i];
	return NULL;
}

static bool is_blank(const char *list)
{
	return list[strspn(list, ", \t")] == '\0';
}

/* 403, with all that would do. */
static void refuse_protocols(struct conn *c, const struct protocol *table, const char *list)
{
	autobuf struct buf headers = BUF_INIT(1024);
	autobuf struct buf names = BUF_INIT(1024);

	for (size_t i = 0; table[i].name; i++) {
		buf_printf(&headers, "X-Accepted-Stream-Protocol-Versions: %s\r\n", table[i].name);
		buf_printf(&names, "%s%s", i > 0 ? " " : "", table[i].name);
	}
	autofree char *text = xasprintf("unable to upgrade: unable to negotiate protocol: client "
					"supports [%s], server accepts [%s]",
					list, names.data);
	conn_refuse(c, 403, headers.data, text);
}

static void upgrade_spdy(struct conn *c, const struct http_head *h, struct stream_request *take)
{
	CLEANUP(stream_request_freep) struct stream_request *r = take;
	const struct protocol *table = r->kind == STREAM_PORTFORWARD ? forward_spdy : command_spdy;
	autofree char *list = joined(h, VERSION_HEADER);

	if (is_blank(list)) {
		conn_refuse(c, 400, "", "unable to upgrade: " VERSION_HEADER " is required");
		return;
	}
	const struct protocol *p = choose(table, list);
	if (!p) {
		refuse_protocols(c, table, list);
		return;
	}
	buf_printf(conn_out(c),
		   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
		   "Upgrade: SPDY/3.1\r\n" VERSION_HEADER ": %s\r\n\r\n",
		   p->name);
	if (r->kind == STREAM_PORTFORWARD)
		forward_spdy_begin(c, TAKE_PTR(r), /* tunnel */ false);
	else
		command_spdy_begin(c, TAKE_PTR(r), p->version);
}

/* False: refused. */
static bool accept_websocket(struct conn *c, const struct http_head *h, const struct protocol *p)
{
	const char *version = http_head_field(h, "Sec-WebSocket-Version");
	char accept[WEBSOCKET_ACCEPT_SIZE];
	autoerror struct error err = ERROR_INIT;

	if (strcmp(h->method, "GET") != 0) {
		conn_refuse(c, 405, "Allow: GET\r\n", "a WebSocket begins with GET");
		return false;
	}
	if (!str_equal(version, "13")) {
		conn_refuse(c, 426, "Sec-WebSocket-Version: 13\r\n",
			    "unable to upgrade: WebSocket version 13 is required");
		return false;
	}
	if (websocket_accept(http_head_field(h, "Sec-WebSocket-Key"), accept, &err) < 0) {
		conn_refuse(c, 400, "", error_msg(&err));
		return false;
	}
	buf_printf(conn_out(c),
		   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
		   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
		   accept, p->name[0] ? "Sec-WebSocket-Protocol: " : "", p->name,
		   p->name[0] ? "\r\n" : "");
	return true;
}

static void upgrade_websocket(struct conn *c, const struct http_head *h,
			      struct stream_request *take)
{
	CLEANUP(stream_request_freep) struct stream_request *r = take;
	bool forward = r->kind == STREAM_PORTFORWARD;
	const struct protocol *table = forward ? forward_websocket : command_websocket;
	autofree char *list = joined(h, "Sec-WebSocket-Protocol");
	const struct protocol *p = is_blank(list) ? &no_protocol : choose(table, list);

	if (!p) {
		refuse_protocols(c, table, list);
		return;
	}
	if (forward && !p->tunnel && (r->n_ports == 0 || r->n_ports > WEBSOCKET_PORTS_MAX)) {
		conn_refuse(c, 400, "",
			    r->n_ports == 0
				    ? "port-forward over WebSocket needs the request's ports"
				    : "too many ports for port-forward over WebSocket");
		return;
	}
	if (!accept_websocket(c, h, p))
		return;
	if (!forward)
		command_websocket_begin(c, TAKE_PTR(r), p->version, p->base64);
	else if (p->tunnel)
		forward_spdy_begin(c, TAKE_PTR(r), /* tunnel */ true);
	else
		forward_websocket_begin(c, TAKE_PTR(r), p->base64);
}

static struct stream_request *find_request(struct conn *c, const char *path)
{
	static const struct {
		const char *prefix;
		enum stream_kind kind;
	} kinds[] = {
		{ "/exec/", STREAM_EXEC },
		{ "/attach/", STREAM_ATTACH },
		{ "/portforward/", STREAM_PORTFORWARD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_has_prefix(path, kinds[i].prefix))
			return streaming_take(conn_streaming(c), path + strlen(kinds[i].prefix),
					      kinds[i].kind);
	return NULL;
}

void stream_upgrade(struct conn *c, const struct http_head *h, const char *path)
{
	autofree char *upgrade = joined(h, "Upgrade");
	autofree char *connection = joined(h, "Connection");

	if (strcmp(h->method, "GET") != 0 && strcmp(h->method, "POST") != 0) {
		conn_refuse(c, 405, "Allow: GET, POST\r\n", "method not allowed");
		return;
	}
	CLEANUP(stream_request_freep) struct stream_request *r = find_request(c, path);
	if (!r) {
		conn_refuse(c, 404, "", "404 page not found");
		return;
	}
	bool upgrades = websocket_has_token(connection, "upgrade");
	if (upgrades && websocket_has_token(upgrade, "SPDY/3.1"))
		upgrade_spdy(c, h, TAKE_PTR(r));
	else if (upgrades && websocket_has_token(upgrade, "websocket"))
		upgrade_websocket(c, h, TAKE_PTR(r));
	else
		conn_refuse(c, 400, "",
			    "unable to upgrade: the request lacks the headers Connection: Upgrade "
			    "and Upgrade: SPDY/3.1 or websocket");
}
