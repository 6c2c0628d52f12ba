/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/parse.h"
#include "network/cni-document.h"

#include <ctype.h>
#include <math.h>
#include <net/if.h>
#include <string.h>

#define NAME_MAX_LEN 128

static const char *const versions[CNI_VERSION_MAX] = {
	[CNI_0_1_0] = "0.1.0", [CNI_0_2_0] = "0.2.0", [CNI_0_3_0] = "0.3.0", [CNI_0_3_1] = "0.3.1",
	[CNI_0_4_0] = "0.4.0", [CNI_1_0_0] = "1.0.0", [CNI_1_1_0] = "1.1.0",
};

const char *cni_version_name(enum cni_version v)
{
	return versions[v];
}

int cni_version_parse(const char *s)
{
	if (str_empty(s))
		return CNI_0_1_0;
	for (int v = 0; v < CNI_VERSION_MAX; v++) {
		if (str_equal(versions[v], s))
			return v;
	}
	return -1;
}

bool cni_name_valid(const char *s)
{
	if (str_empty(s) || strlen(s) > NAME_MAX_LEN || !isalnum((unsigned char)s[0]))
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	}
	return true;
}

bool cni_ifname_valid(const char *s)
{
	if (str_empty(s) || strlen(s) >= IFNAMSIZ || str_equal(s, ".") || str_equal(s, ".."))
		return false;
	for (; *s; s++) {
		if (*s == '/' || *s == ':' || isspace((unsigned char)*s) ||
		    iscntrl((unsigned char)*s))
			return false;
	}
	return true;
}

void cni_list_done(struct cni_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		json_unref(l->v[i].config);
	free(l->v);
	free(l->name);
	*l = CNI_LIST_INIT;
}

/* Takes config. */
static int add_plugin(struct cni_list *l, struct json *config, struct error *err)
{
	autojson struct json *own = config;
	const char *type = json_get_string(config, "type");

	if (l->n >= CNI_PLUGINS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d plugins",
				 CNI_PLUGINS_MAX);
	/* A type is a file's name in the directories of plugins, and nowhere else. */
	if (str_empty(type) || strchr(type, '/') || type[0] == '.')
		return error_set(err, ERROR_INVALID_ARGUMENT, "plugins[%zu]: %s 'type'%s%s", l->n,
				 type ? "invalid" : "missing", type ? ": " : "", type ? type : "");
	GROW_ARRAY(l->v, l->n);
	l->v[l->n++] = (struct cni_plugin){ .type = type, .config = TAKE_PTR(own) };
	return 0;
}

/* libcni takes "true" for true as well. */
static int read_bool(const struct json *j, const char *key, bool *ret, struct error *err)
{
	const struct json *m = json_get(j, key);
	const char *s = json_string(m);

	if (json_type(m) == JSON_BOOL)
		*ret = json_bool(m, false);
	else if (s && strcasecmp(s, "true") == 0)
		*ret = true;
	else if (m && json_type(m) != JSON_NULL && !(s && strcasecmp(s, "false") == 0))
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s: expected a boolean", key);
	return 0;
}

/* The newest that both sides know of cniVersion and cniVersions. */
static int read_version(const struct json *j, enum cni_version *ret, struct error *err)
{
	const struct json *one = json_get(j, "cniVersion"), *many = json_get(j, "cniVersions");
	int best = -1;

	if (one && json_type(one) != JSON_NULL && json_type(one) != JSON_STRING)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cniVersion: expected a string");
	if (json_array_len(many) == 0 || json_string(one))
		best = cni_version_parse(json_string(one));
	for (size_t i = 0; i < json_array_len(many); i++) {
		const char *s = json_string(json_array_get(many, i));

		if (str_empty(s))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "cniVersions[%zu]: expected a version", i);
		best = MAX(best, cni_version_parse(s));
	}
	if (best < 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "cniVersion: '%s' is not supported (newest: %s)",
				 json_string(one) ? json_string(one) : "",
				 versions[CNI_VERSION_MAX - 1]);
	*ret = (enum cni_version)best;
	return 0;
}

static int read_plugins(const struct json *j, struct cni_list *l, struct error *err)
{
	const struct json *plugins = json_get(j, "plugins");
	size_t n = json_array_len(plugins);

	if (!plugins) {
		if (l->inlined_only)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "loadOnlyInlinedPlugins without 'plugins'");
		return 0;
	}
	if (json_type(plugins) != JSON_ARRAY || n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "plugins: expected an array of at least one plugin");
	for (size_t i = 0; i < n; i++) {
		if (add_plugin(l, json_copy(json_array_get(plugins, i)), err) < 0)
			return -1;
	}
	return 0;
}

int cni_list_parse(const char *text, size_t len, bool single, struct cni_list *ret,
		   struct error *err)
{
	autojson struct json *j = json_parse(text, len, CNI_DOCUMENT_MAX, err);
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	const char *name = json_get_string(j, "name");

	if (!j)
		return -1;
	if (json_type(j) != JSON_OBJECT)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected an object");
	if (!cni_name_valid(name))
		return error_set(err, ERROR_INVALID_ARGUMENT, "%s 'name'%s%s",
				 name ? "invalid" : "missing", name ? ": " : "", name ? name : "");
	l.name = xstrdup(name);
	if (read_version(j, &l.version, err) < 0)
		return -1;
	if (single) {
		if (json_get(j, "plugins"))
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "a list of plugins in a file that is not a .conflist");
		l.inlined_only = true;
		if (add_plugin(&l, json_ref(j), err) < 0)
			return -1;
	} else if (read_bool(j, "disableCheck", &l.disable_check, err) < 0 ||
		   read_bool(j, "disableGC", &l.disable_gc, err) < 0 ||
		   read_bool(j, "loadOnlyInlinedPlugins", &l.inlined_only, err) < 0 ||
		   read_plugins(j, &l, err) < 0) {
		return -1;
	}
	*ret = l;
	l = CNI_LIST_INIT;
	return 0;
}

int cni_list_add(struct cni_list *l, const char *text, size_t len, struct error *err)
{
	autojson struct json *j = json_parse(text, len, CNI_DOCUMENT_MAX, err);

	return j ? add_plugin(l, TAKE_PTR(j), err) : -1;
}

char *cni_list_format(const struct cni_list *l)
{
	autojson struct json *j = json_new_object();
	struct json *plugins = json_new_array();

	json_set_string(j, "cniVersion", versions[l->version]);
	json_set_string(j, "name", l->name);
	if (l->disable_check)
		json_set_bool(j, "disableCheck", true);
	if (l->disable_gc)
		json_set_bool(j, "disableGC", true);
	json_set_bool(j, "loadOnlyInlinedPlugins", true);
	for (size_t i = 0; i < l->n; i++)
		json_add(plugins, json_ref(l->v[i].config));
	json_set(j, "plugins", plugins);
	return json_format(j, false);
}

int cni_quantity_parse(const char *s, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		double factor;
	} suffixes[] = {
		{ "", 1 },	  { "m", 1e-3 },    { "u", 1e-6 },    { "n", 1e-9 },
		{ "k", 1e3 },	  { "M", 1e6 },	    { "G", 1e9 },     { "T", 1e12 },
		{ "P", 1e15 },	  { "E", 1e18 },    { "Ki", 1024.0 }, { "Mi", 1048576.0 },
		{ "Gi", 0x1p30 }, { "Ti", 0x1p40 }, { "Pi", 0x1p50 }, { "Ei", 0x1p60 },
	};
	size_t n = s ? strspn(s, "+0123456789.") : 0;
	char number[32];
	double v;

	/* An exponent is one only with digits behind it: "1E" is exa. */
	if (n > 0 && (s[n] == 'e' || s[n] == 'E') && s[n + 1]) {
		size_t sign = strspn(s + n + 1, "+-");
		size_t digits = strspn(s + n + 1 + sign, "0123456789");

		if (sign <= 1 && digits > 0)
			n += 1 + sign + digits;
	}
	if (n == 0 || n >= sizeof(number))
		return -EINVAL;
	memcpy(number, s, n);
	number[n] = '\0';
	if (parse_double(number, &v) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		if (!str_equal(suffixes[i].suffix, s + n))
			continue;
		v = ceil(v * suffixes[i].factor);
		if (!(v >= 0) || v > 9e18)
			return -ERANGE;
		*ret = (uint64_t)v;
		return 0;
	}
	return -EINVAL;
}
