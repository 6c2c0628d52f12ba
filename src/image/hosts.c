/* SPDX-License-Identifier: Apache-2.0 */
#include "image/hosts.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"
#include "base/time.h"
#include "oci/toml.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#define HOSTS_MAX 16

void registry_hosts_done(struct registry_hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		struct registry_host *r = &h->v[i];

		free(r->url);
		free(r->host);
		strv_done(&r->ca);
		free(r->client_cert);
		free(r->client_key);
		strv_done(&r->header_names);
		strv_done(&r->header_values);
	}
	free(h->v);
	*h = REGISTRY_HOSTS_INIT;
}

static struct registry_host *add(struct registry_hosts *h)
{
	GROW_ARRAY(h->v, h->n);
	h->v[h->n] = (struct registry_host){ .can = HOST_ALL };
	return &h->v[h->n++];
}

static void add_url(struct registry_hosts *h, const char *scheme, const char *host,
		    bool skip_verify)
{
	struct registry_host *r = add(h);

	r->url = xasprintf("%s://%s/v2", scheme, host);
	r->host = xstrdup(host);
	r->skip_verify = skip_verify;
}

/* --- names and addresses --- */

/* "host", "host:port", "[v6]:port" -> the host without brackets; *ret_port NULL or in `host`. */
static char *split_host(const char *host, const char **ret_port)
{
	const char *end;

	*ret_port = NULL;
	if (*host == '[' && (end = strchr(host, ']'))) {
		if (end[1] == ':')
			*ret_port = end + 2;
		return xstrndup(host + 1, (size_t)(end - host - 1));
	}
	end = strrchr(host, ':');
	if (!end)
		return xstrdup(host);
	*ret_port = end + 1;
	return xstrndup(host, (size_t)(end - host));
}

struct address {
	int family; /* 0: none */
	uint8_t bytes[16];
};

static struct address parse_address(const char *s)
{
	struct address a = { 0 };

	if (inet_pton(AF_INET, s, a.bytes) == 1)
		a.family = AF_INET;
	else if (inet_pton(AF_INET6, s, a.bytes) == 1)
		a.family = AF_INET6;
	return a;
}

static bool in_network(const struct address *a, const char *cidr)
{
	const char *slash = strchr(cidr, '/');
	autofree char *text = slash ? xstrndup(cidr, (size_t)(slash - cidr)) : NULL;
	struct address net;
	uint64_t bits;

	if (!text || parse_uint64(slash + 1, &bits) < 0)
		return false;
	net = parse_address(text);
	if (!a->family || net.family != a->family || bits > (a->family == AF_INET ? 32 : 128))
		return false;
	for (unsigned i = 0; i < bits; i++) {
		unsigned mask = 0x80u >> (i % 8);

		if ((net.bytes[i / 8] & mask) != (a->bytes[i / 8] & mask))
			return false;
	}
	return true;
}

static bool is_loopback(const char *host)
{
	const char *port;
	autofree char *name UNUSED = split_host(host, &port);
	struct address a = parse_address(name);

	return str_equal(name, "localhost") || in_network(&a, "127.0.0.0/8") ||
	       in_network(&a, "::1/128");
}

bool hosts_insecure(const char *host, const struct strv *insecure)
{
	const char *port;
	autofree char *name UNUSED = split_host(host, &port);
	struct address a = parse_address(name);

	for (size_t i = 0; insecure && i < insecure->n; i++)
		if (str_equal(insecure->v[i], host) || str_equal(insecure->v[i], name) ||
		    in_network(&a, insecure->v[i]))
			return true;
	return false;
}

void hosts_default(const char *domain, const struct strv *insecure, struct registry_hosts *ret)
{
	const char *host = str_equal(domain, "docker.io") ? "registry-1.docker.io" : domain;
	const char *port;
	autofree char *name UNUSED = split_host(host, &port);

	if (is_loopback(host) && !str_equal(port, "443")) {
		add_url(ret, "http", host, false);
		add_url(ret, "https", host, true);
	} else if (hosts_insecure(host, insecure) || is_loopback(host)) {
		add_url(ret, "https", host, true);
		add_url(ret, "http", host, false);
	} else {
		add_url(ret, "https", host, false);
	}
}

/* --- hosts.toml --- */

static int wrong(const char *where, const char *key, const char *what, struct error *err)
{
	return error_set(err, ERROR_INVALID_ARGUMENT, "host '%s': %s: %s", where, key, what);
}

static char *below(const char *dir, const char *file)
{
	return *file == '/' ? xstrdup(file) : path_join(dir, file, NULL);
}

static int take_capabilities(const struct json *j, const char *where, struct registry_host *h,
			     struct error *err)
{
	static const struct {
		const char *name;
		unsigned can;
	} table[] = {
		{ "pull", HOST_PULL },
		{ "resolve", HOST_RESOLVE },
		{ "push", HOST_PUSH },
		{ "referrers", 0 },
	};
	autostrv struct strv names = STRV_INIT;

	if (!json_get(j, "capabilities"))
		return 0;
	if (json_get_strv(j, "capabilities", &names, err) < 0)
		return error_wrap(err, "host '%s'", where);
	h->can = 0;
	for (size_t i = 0; i < names.n; i++) {
		size_t k = 0;

		while (k < ARRAY_SIZE(table) && !str_equal(table[k].name, names.v[i]))
			k++;
		if (k == ARRAY_SIZE(table))
			return wrong(where, "capabilities", "unknown capability", err);
		h->can |= table[k].can;
	}
	return 0;
}

/* A string or an array of them. */
static int take_strings(const struct json *j, const char *where, const char *key, struct strv *ret,
			struct error *err)
{
	const struct json *value = json_get(j, key);

	if (json_type(value) == JSON_STRING)
		strv_push(ret, json_string(value));
	else if (json_get_strv(j, key, ret, err) < 0)
		return error_wrap(err, "host '%s'", where);
	return 0;
}

/* client: "file", ["file", ...], [["cert", "key"], ...]; curl takes one, the first. */
static int take_client(const struct json *j, const char *where, const char *dir,
		       struct registry_host *h, struct error *err)
{
	const struct json *value = json_get(j, "client");
	const char *cert = json_string(value), *key = NULL;

	if (json_type(value) == JSON_ARRAY) {
		const struct json *first = json_array_get(value, 0);

		cert = json_string(first);
		if (json_type(first) == JSON_ARRAY) {
			cert = json_string(json_array_get(first, 0));
			key = json_string(json_array_get(first, 1));
		}
	}
	if (value && str_empty(cert))
		return wrong(where, "client", "expected a file or [certificate, key]", err);
	h->client_cert = cert ? below(dir, cert) : NULL;
	h->client_key = str_empty(key) ? NULL : below(dir, key);
	return 0;
}

struct header_walk {
	struct registry_host *host;
	const char *where;
	struct error *err;
};

static int take_header(const char *name, struct json *value, void *arg)
{
	struct header_walk *w = arg;
	bool array = json_type(value) == JSON_ARRAY;
	size_t n = array ? json_array_len(value) : 1;

	for (size_t i = 0; i < n; i++) {
		const char *text = json_string(array ? json_array_get(value, i) : value);

		if (!text)
			return wrong(w->where, "header", "expected strings", w->err);
		strv_push(&w->host->header_names, name);
		strv_push(&w->host->header_values, text);
	}
	return 0;
}

static int take_settings(const struct json *j, const char *where, const char *dir,
			 struct registry_host *h, struct error *err)
{
	struct header_walk walk = { .host = h, .where = where, .err = err };
	autostrv struct strv ca = STRV_INIT;
	const char *timeout = json_get_string(j, "dial_timeout");
	const struct json *header = json_get(j, "header");

	if (take_capabilities(j, where, h, err) < 0 || take_strings(j, where, "ca", &ca, err) < 0 ||
	    take_client(j, where, dir, h, err) < 0)
		return -1;
	for (size_t i = 0; i < ca.n; i++)
		strv_take(&h->ca, below(dir, ca.v[i]));
	h->skip_verify = json_get_bool(j, "skip_verify", h->skip_verify);
	if (header && json_type(header) != JSON_OBJECT)
		return wrong(where, "header", "expected a table", err);
	if (header && json_object_each(header, take_header, &walk) != 0)
		return -1;
	if (timeout && (time_parse_duration(timeout, &h->dial_timeout) < 0 || h->dial_timeout <= 0))
		return wrong(where, "dial_timeout", "no duration", err);
	return 0;
}

/* "https://mirror:5000/prefix" (the scheme may lack) -> url and host. */
static int take_url(const char *url, bool override_path, const struct strv *insecure,
		    struct registry_host *h, struct error *err)
{
	const char *scheme = strstr(url, "://");
	const char *rest = scheme ? scheme + 3 : url;
	size_t host_len = strcspn(rest, "/?#");
	size_t len = strlen(rest);

	if (host_len == 0 || strpbrk(rest, "?#@ \t\r\n") ||
	    (scheme && !str_has_prefix(url, "https://") && !str_has_prefix(url, "http://")))
		return wrong(url, "url", "expected http(s)://host[:port][/path]", err);
	h->host = xstrndup(rest, host_len);
	while (len > host_len && rest[len - 1] == '/')
		len--;
	bool plain = scheme ? str_has_prefix(url, "http://") : is_loopback(h->host);
	bool has_v2 = len >= 3 && strncmp(rest + len - 3, "/v2", 3) == 0;
	h->url = xasprintf("http%s://%.*s%s", plain ? "" : "s", (int)len, rest,
			   override_path || has_v2 ? "" : "/v2");
	h->skip_verify = !plain && (is_loopback(h->host) || hosts_insecure(h->host, insecure));
	return 0;
}

/* http with TLS settings means: https if it is there, else http. Puts https in front. */
static void add_tls_first(struct registry_hosts *hosts)
{
	struct registry_host *plain = &hosts->v[hosts->n - 1];
	struct registry_host copy = { .can = plain->can, .skip_verify = plain->skip_verify };
	const char *port;
	autofree char *name UNUSED = split_host(plain->host, &port);

	if (!str_has_prefix(plain->url, "http://") || !port || str_equal(port, "80") ||
	    !(plain->ca.n || plain->client_cert || plain->skip_verify))
		return;
	copy.url = xstrdup(plain->url);
	copy.host = xstrdup(plain->host);
	copy.dial_timeout = plain->dial_timeout;
	strv_copy(&copy.header_names, &plain->header_names);
	strv_copy(&copy.header_values, &plain->header_values);
	copy.skip_verify = false;
	char *tls = xasprintf("https%s", plain->url + 4);
	free(plain->url);
	plain->url = tls;
	*add(hosts) = copy;
}

struct parse {
	const char *dir;
	const struct strv *insecure;
	struct registry_hosts *hosts;
	struct error *err;
};

static int take_host(const char *url, struct json *j, void *arg)
{
	struct parse *p = arg;
	struct registry_host *h;

	if (json_type(j) != JSON_OBJECT)
		return wrong(url, "host", "expected a table", p->err);
	if (json_get(j, "host"))
		return wrong(url, "host", "hosts cannot be nested", p->err);
	if (p->hosts->n >= HOSTS_MAX)
		return wrong(url, "host", "too many hosts", p->err);
	h = add(p->hosts);
	if (take_url(url, json_get_bool(j, "override_path", false), p->insecure, h, p->err) < 0 ||
	    take_settings(j, url, p->dir, h, p->err) < 0)
		return -1;
	add_tls_first(p->hosts);
	return 0;
}

/* The namespace's own servers, with the top level's settings. */
static int take_server(const struct json *top, const char *domain, struct parse *p)
{
	const char *server = json_get_string(top, "server");
	size_t first = p->hosts->n;

	if (!str_empty(server)) {
		struct registry_host *h = add(p->hosts);

		if (take_url(server, json_get_bool(top, "override_path", false), p->insecure, h,
			     p->err) < 0)
			return -1;
	} else {
		hosts_default(domain, p->insecure, p->hosts);
	}
	for (size_t i = first; i < p->hosts->n; i++)
		if (take_settings(top, p->hosts->v[i].host, p->dir, &p->hosts->v[i], p->err) < 0)
			return -1;
	if (!str_empty(server))
		add_tls_first(p->hosts);
	return 0;
}

int hosts_parse(const char *text, size_t len, const char *domain, const char *dir,
		const struct strv *insecure, struct registry_hosts *ret, struct error *err)
{
	autojson struct json *top = toml_parse(text, len, HOSTS_TOML_MAX, err);
	struct parse p = { .dir = dir, .insecure = insecure, .hosts = ret, .err = err };
	const struct json *hosts;

	if (!top)
		return -1;
	hosts = json_get(top, "host");
	if (hosts && json_type(hosts) != JSON_OBJECT)
		return wrong(domain, "host", "expected tables", err);
	if (hosts && json_object_each(hosts, take_host, &p) != 0)
		return -1;
	return take_server(top, domain, &p);
}

/* --- directories --- */

/* Docker's *.crt, *.cert and *.key, for every server of the name. */
static bool take_certificates(const char *dir, struct registry_hosts *hosts)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	if (!d)
		return false;
	while ((e = readdir(d))) {
		autofree char *path = path_join(dir, e->d_name, NULL);
		bool ca = str_has_suffix(e->d_name, ".crt");
		bool client = str_has_suffix(e->d_name, ".cert");

		found |= ca || client;
		for (size_t i = 0; i < hosts->n; i++) {
			struct registry_host *h = &hosts->v[i];
			autofree char *key = NULL;

			if (ca)
				strv_push(&h->ca, path);
			if (!client || h->client_cert)
				continue;
			h->client_cert = xstrdup(path);
			key = xasprintf("%.*s.key", (int)(strlen(path) - 5), path);
			if (access(key, F_OK) == 0)
				h->client_key = TAKE_PTR(key);
		}
	}
	closedir(d);
	return found;
}

/* 1: the directory had something to say, 0: not. An empty one does not hide _default. */
static int load_dir(const char *dir, const char *domain, const struct strv *insecure,
		    struct registry_hosts *ret, struct error *err)
{
	autofree char *file = path_join(dir, "hosts.toml", NULL);
	autobuf struct buf text = BUF_INIT(HOSTS_TOML_MAX);
	autohosts struct registry_hosts own = REGISTRY_HOSTS_INIT;
	int r = fs_read(AT_FDCWD, file, &text);

	if (r == 0) {
		if (hosts_parse(text.data, text.len, domain, dir, insecure, ret, err) < 0)
			return error_wrap(err, "'%s'", file);
		return 1;
	}
	if (r != -ENOENT && r != -ENOTDIR)
		return error_errno(err, -r, "read '%s'", file);
	hosts_default(domain, insecure, &own);
	if (!take_certificates(dir, &own))
		return 0;
	*ret = own;
	own = REGISTRY_HOSTS_INIT;
	return 1;
}

int hosts_load(const struct strv *roots, const char *domain, const struct strv *insecure,
	       struct registry_hosts *ret, struct error *err)
{
	const char *colon = strrchr(domain, ':');
	autofree char *underscored =
		colon ? xasprintf("%.*s_%s_", (int)(colon - domain), domain, colon + 1) : NULL;
	const char *const names[] = { underscored, domain, "_default" };

	for (size_t i = 0; i < roots->n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			autofree char *dir = NULL;
			int r;

			if (!names[k] || !path_component_valid(names[k]))
				continue;
			dir = path_join(roots->v[i], names[k], NULL);
			r = load_dir(dir, domain, insecure, ret, err);
			if (r != 0)
				return r < 0 ? -1 : 0;
		}
	hosts_default(domain, insecure, ret);
	return 0;
}
