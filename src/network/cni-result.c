/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results. Until 0.2.0 there was one address of each family ("ip4", "ip6"); since 0.3.0 there are
 * arrays, whose addresses say "version" until 0.4.0. All become one struct cni_info.
 */
#include "base/mem.h"
#include "network/cni-document.h"

#include <string.h>

static void interface_done(struct cni_interface *f)
{
	free(f->name);
	free(f->mac);
	free(f->sandbox);
}

void cni_info_done(struct cni_info *i)
{
	for (size_t k = 0; k < i->interfaces.n; k++)
		interface_done(&i->interfaces.v[k]);
	free(i->interfaces.v);
	free(i->ips.v);
	free(i->routes.v);
	json_unref(i->dns);
	*i = CNI_INFO_INIT;
}

void cni_info_add_interface(struct cni_info *i, const char *name, const char *mac,
			    const char *sandbox)
{
	GROW_ARRAY(i->interfaces.v, i->interfaces.n);
	i->interfaces.v[i->interfaces.n++] = (struct cni_interface){
		.name = xstrdup(name),
		.mac = str_empty(mac) ? NULL : xstrdup(mac),
		.sandbox = str_empty(sandbox) ? NULL : xstrdup(sandbox),
	};
}

void cni_info_add_ip(struct cni_info *i, const struct cni_ip *ip)
{
	GROW_ARRAY(i->ips.v, i->ips.n);
	i->ips.v[i->ips.n++] = *ip;
}

void cni_info_add_route(struct cni_info *i, const struct cni_net *dst, const struct ip *gateway)
{
	GROW_ARRAY(i->routes.v, i->routes.n);
	i->routes.v[i->routes.n++] = (struct cni_route){
		.dst = *dst,
		.gateway = gateway ? *gateway : (struct ip){ 0 },
	};
}

static int too_many(const char *what, const struct json *array, struct error *err)
{
	if (json_array_len(array) <= CNI_ADDRESSES_MAX)
		return 0;
	return error_set(err, ERROR_INVALID_ARGUMENT, "%s: more than %d", what, CNI_ADDRESSES_MAX);
}

/* null and "" are none. */
static int optional_addr(const struct json *obj, const char *key, const char *where, size_t at,
			 struct ip *ret, struct error *err)
{
	const char *s = json_get_string(obj, key);

	*ret = (struct ip){ 0 };
	if (str_empty(s))
		return 0;
	if (ip_parse(s, ret) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s[%zu].%s: invalid address '%s'",
				 where, at, key, s);
	return 0;
}

static int on_route_member(const char *key, struct json *value UNUSED, void *arg)
{
	struct error *err = arg;

	if (str_equal(key, "dst") || str_equal(key, "gw"))
		return 0;
	return error_set(err, ERROR_UNIMPLEMENTED, "routes: '%s'", key);
}

int cni_routes_parse(const struct json *routes, struct cni_info *ret, bool strict,
		     struct error *err)
{
	if (too_many("routes", routes, err) < 0)
		return -1;
	for (size_t k = 0; k < json_array_len(routes); k++) {
		const struct json *r = json_array_get(routes, k);
		const char *dst = json_get_string(r, "dst");
		struct ip gateway;
		struct cni_net net;

		if (cni_net_parse(dst, &net) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "routes[%zu].dst: invalid prefix '%s'", k, dst ? dst : "");
		if (optional_addr(r, "gw", "routes", k, &gateway, err) < 0 ||
		    (strict && json_object_each(r, on_route_member, err) < 0))
			return -1;
		net.addr = cni_net_base(&net);
		cni_info_add_route(ret, &net, &gateway);
	}
	return 0;
}

static int parse_interfaces(const struct json *array, struct cni_info *ret, struct error *err)
{
	if (too_many("interfaces", array, err) < 0)
		return -1;
	for (size_t k = 0; k < json_array_len(array); k++) {
		const struct json *f = json_array_get(array, k);
		const char *name = json_get_string(f, "name");

		if (!name)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "interfaces[%zu]: missing 'name'", k);
		cni_info_add_interface(ret, name, json_get_string(f, "mac"),
				       json_get_string(f, "sandbox"));
	}
	return 0;
}

static int parse_ips(const struct json *array, struct cni_info *ret, struct error *err)
{
	if (too_many("ips", array, err) < 0)
		return -1;
	for (size_t k = 0; k < json_array_len(array); k++) {
		const struct json *j = json_array_get(array, k);
		const char *s = json_get_string(j, "address");
		struct cni_ip ip = { .interface = -1 };
		int64_t index = json_get_int(j, "interface", -1);

		if (cni_net_parse(s, &ip.address) < 0)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "ips[%zu].address: invalid '%s'", k, s ? s : "");
		if (optional_addr(j, "gateway", "ips", k, &ip.gateway, err) < 0)
			return -1;
		if (index >= 0 && (uint64_t)index < ret->interfaces.n)
			ip.interface = (int)index;
		cni_info_add_ip(ret, &ip);
	}
	return 0;
}

static int parse_old(const struct json *result, const char *key, struct cni_info *ret,
		     struct error *err)
{
	const struct json *j = json_get(result, key);
	const char *s = json_get_string(j, "ip");
	struct cni_ip ip = { .interface = -1 };

	if (!j || json_type(j) == JSON_NULL)
		return 0;
	if (cni_net_parse(s, &ip.address) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s.ip: invalid '%s'", key,
				 s ? s : "");
	if (optional_addr(j, "gateway", key, 0, &ip.gateway, err) < 0)
		return -1;
	cni_info_add_ip(ret, &ip);
	return cni_routes_parse(json_get(j, "routes"), ret, false, err);
}

int cni_info_parse(const struct json *result, struct cni_info *ret, struct error *err)
{
	autocniinfo struct cni_info i = CNI_INFO_INIT;
	const char *version = json_get_string(result, "cniVersion");
	const struct json *dns = json_get(result, "dns");
	int v = cni_version_parse(version);

	if (json_type(result) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected an object");
	if (v < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cniVersion: unknown '%s'", version);
	i.version = (enum cni_version)v;
	if (i.version < CNI_0_3_0) {
		if (parse_old(result, "ip4", &i, err) < 0 || parse_old(result, "ip6", &i, err) < 0)
			return -1;
	} else if (parse_interfaces(json_get(result, "interfaces"), &i, err) < 0 ||
		   parse_ips(json_get(result, "ips"), &i, err) < 0 ||
		   cni_routes_parse(json_get(result, "routes"), &i, false, err) < 0) {
		return -1;
	}
	if (json_object_len(dns) > 0)
		i.dns = json_copy(dns);
	*ret = i;
	i = CNI_INFO_INIT;
	return 0;
}

static struct json *encode_interfaces(const struct cni_info *i)
{
	struct json *array = json_new_array();

	for (size_t k = 0; k < i->interfaces.n; k++) {
		const struct cni_interface *f = &i->interfaces.v[k];
		struct json *j = json_new_object();

		json_set_string(j, "name", f->name);
		if (f->mac)
			json_set_string(j, "mac", f->mac);
		if (f->sandbox)
			json_set_string(j, "sandbox", f->sandbox);
		json_add(array, j);
	}
	return array;
}

static struct json *encode_ips(const struct cni_info *i)
{
	struct json *array = json_new_array();

	for (size_t k = 0; k < i->ips.n; k++) {
		const struct cni_ip *ip = &i->ips.v[k];
		struct json *j = json_new_object();
		char text[CNI_NET_STRING_MAX];

		if (i->version < CNI_1_0_0)
			json_set_string(j, "version", ip->address.addr.len == 4 ? "4" : "6");
		if (ip->interface >= 0)
			json_set_int(j, "interface", ip->interface);
		cni_net_format(&ip->address, text);
		json_set_string(j, "address", text);
		if (ip->gateway.len) {
			ip_format(&ip->gateway, text);
			json_set_string(j, "gateway", text);
		}
		json_add(array, j);
	}
	return array;
}

struct json *cni_info_encode(const struct cni_info *i)
{
	struct json *j = json_new_object(), *routes = json_new_array();

	json_set_string(j, "cniVersion", cni_version_name(i->version));
	if (i->interfaces.n)
		json_set(j, "interfaces", encode_interfaces(i));
	if (i->ips.n)
		json_set(j, "ips", encode_ips(i));
	for (size_t k = 0; k < i->routes.n; k++) {
		struct json *r = json_new_object();
		char text[CNI_NET_STRING_MAX];

		cni_net_format(&i->routes.v[k].dst, text);
		json_set_string(r, "dst", text);
		if (i->routes.v[k].gateway.len) {
			ip_format(&i->routes.v[k].gateway, text);
			json_set_string(r, "gw", text);
		}
		json_add(routes, r);
	}
	if (i->routes.n)
		json_set(j, "routes", routes);
	else
		json_unref(routes);
	json_set(j, "dns", i->dns ? json_copy(i->dns) : json_new_object());
	return j;
}

/* Whatever a plugin prints goes into messages: only so much, and plain characters. */
static char *excerpt(const char *s, size_t len)
{
	char *text = xstrndup(s, MIN(len, (size_t)512));

	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ')
			*p = ' ';
		else if ((unsigned char)*p >= 0x7f)
			*p = '?';
	}
	for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--)
		text[n - 1] = '\0';
	return text;
}

static enum error_code code_of(int64_t cni_code)
{
	switch (cni_code) {
	case 11: /* try again later */
	case 50: /* the plugin is not available */
	case 51: /* and what there is has limited connectivity */
		return ERROR_UNAVAILABLE;
	case 7: /* invalid network configuration */
		return ERROR_FAILED_PRECONDITION;
	default:
		return ERROR_UNKNOWN;
	}
}

int cni_failure(const char *out, size_t out_len, const char *errout, const char *status,
		struct error *err)
{
	autojson struct json *j = json_parse(out, out_len, CNI_DOCUMENT_MAX, NULL);
	const char *msg = json_get_string(j, "msg"), *details = json_get_string(j, "details");

	if (!str_empty(msg) || json_get_int(j, "code", 0) != 0) {
		autofree char *a = excerpt(msg ? msg : "", msg ? strlen(msg) : 0);
		autofree char *b = excerpt(details ? details : "", details ? strlen(details) : 0);
		int64_t code = json_get_int(j, "code", 0);

		if (!*a)
			return error_set(err, code_of(code), "error code %lld%s%s", (long long)code,
					 *b ? ": " : "", b);
		return error_set(err, code_of(code), "%s%s%s", a, *b ? "; " : "", b);
	}
	if (out_len > 0) {
		autofree char *text = excerpt(out, out_len);

		return error_set(err, ERROR_UNKNOWN, "%s, and no error in its output: '%s'", status,
				 text);
	}
	if (!str_empty(errout)) {
		autofree char *text = excerpt(errout, strlen(errout));

		return error_set(err, ERROR_UNKNOWN, "%s: '%s'", status, text);
	}
	return error_set(err, ERROR_UNKNOWN, "%s without an error message", status);
}
