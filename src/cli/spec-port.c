/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spec-parse.h"

#include "base/mem.h"
#include "base/parse.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct range {
	int first, last;
};

static int parse_port(const char *s, size_t n, int *ret)
{
	autofree char *text = xstrndup(s, n);
	int64_t v;

	if (!n || *text < '0' || *text > '9' || parse_int64(text, &v) < 0 || v > 65535)
		return -EINVAL;
	*ret = (int)v;
	return 0;
}

static int parse_range(const char *s, struct range *ret)
{
	const char *dash = strchr(s, '-');

	if (!dash) {
		if (parse_port(s, strlen(s), &ret->first) < 0)
			return -EINVAL;
		ret->last = ret->first;
		return 0;
	}
	if (parse_port(s, (size_t)(dash - s), &ret->first) < 0 ||
	    parse_port(dash + 1, strlen(dash + 1), &ret->last) < 0 || ret->last < ret->first)
		return -EINVAL;
	return 0;
}

/* Cuts "/proto" off; returns it in lower case, "tcp" without one; NULL: unknown. */
static const char *take_protocol(char *s)
{
	static const char *const names[] = { "tcp", "udp", "sctp" };
	char *slash = strrchr(s, '/');

	if (!slash)
		return names[0];
	*slash = '\0';
	if (!slash[1])
		return names[0];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(slash + 1, names[i]) == 0)
			return names[i];
	return NULL;
}

int spec_expose(const char *s, struct json *exposed, struct error *err)
{
	autofree char *text = xstrdup(s);
	const char *protocol = take_protocol(text);
	struct range r;

	if (strchr(s, ':'))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid port format for --expose: %s", s);
	if (!protocol || parse_range(text, &r) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid range format for --expose: %s", s);
	for (int port = r.first; port <= r.last; port++) {
		char key[32];

		snprintf(key, sizeof(key), "%d/%s", port, protocol);
		json_set(exposed, key, json_new_object());
	}
	return 0;
}

/* "ip:host:container" into its parts (borrowed from s, which is cut up). */
static int split_publish(char *s, const char **ret_ip, const char **ret_host,
			 const char **ret_container)
{
	char *colon = strrchr(s, ':');

	*ret_ip = *ret_host = "";
	*ret_container = colon ? colon + 1 : s;
	if (!colon)
		return 0;
	*colon = '\0';
	colon = strrchr(s, ':');
	*ret_host = colon ? colon + 1 : s;
	if (!colon)
		return 0;
	*colon = '\0';
	if (*s == '[') {
		char *end = strchr(s, ']');

		if (!end || end[1])
			return -EINVAL;
		*end = '\0';
		s++;
	}
	*ret_ip = s;
	return *s && spec_check_ip(s, NULL) < 0 ? -EINVAL : 0;
}

static void add_binding(struct json *exposed, struct json *bindings, const char *key,
			const char *ip, const char *host)
{
	struct json *list = json_get(bindings, key);
	struct json *b = json_new_object();

	json_set(exposed, key, json_new_object());
	if (!list) {
		list = json_new_array();
		json_set(bindings, key, list);
	}
	json_set_string(b, "HostIp", ip);
	json_set_string(b, "HostPort", host);
	json_add(list, b);
}

int spec_publish(const char *s, struct json *exposed, struct json *bindings, struct error *err)
{
	autofree char *text = xstrdup(s);
	const char *protocol = take_protocol(text);
	const char *ip, *host, *container;
	struct range c, h = { 0, 0 };

	if (!protocol)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid proto: %s",
				 strrchr(s, '/') + 1);
	if (split_publish(text, &ip, &host, &container) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid IP address: %s", ip);
	if (!*container)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no port specified: %s<empty>", s);
	if (parse_range(container, &c) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid containerPort: %s",
				 container);
	if (*host && parse_range(host, &h) < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid hostPort: %s", host);
	if (*host && c.last - c.first != h.last - h.first && c.first != c.last)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "invalid ranges specified for container and host Ports: %s and %s",
				 container, host);
	for (int i = 0; i <= c.last - c.first; i++) {
		char key[32], number[16];

		snprintf(key, sizeof(key), "%d/%s", c.first + i, protocol);
		snprintf(number, sizeof(number), "%d", h.first + i);
		add_binding(exposed, bindings, key, ip,
			    !*host		? ""
			    : c.first == c.last ? host
						: number);
	}
	return 0;
}
