/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcni's cache, <dir>/results/<network>-<id>-<ifname>, so that other programs' tools find what
 * they know. Two things are ours: a record is written before the first plugin runs, without a
 * "result" then, and "kistl" names the plugins that were built in, since only they can undo what
 * they did.
 */
#include "base/fs.h"
#include "base/hex.h"
#include "base/mem.h"
#include "network/cni-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#define KIND "cniCacheV1"
#define RECORD_MAX (4 * CNI_DOCUMENT_MAX)

void cni_record_done(struct cni_record *r)
{
	free(r->id);
	free(r->ifname);
	free(r->network);
	free(r->netns);
	free(r->config);
	strv_done(&r->args);
	json_unref(r->capabilities);
	json_unref(r->result);
	strv_done(&r->builtin);
	*r = CNI_RECORD_INIT;
}

static struct json *encode_args(const struct strv *args)
{
	struct json *array = json_new_array();

	for (size_t i = 0; i < args->n; i++) {
		const char *eq = strchr(args->v[i], '=');
		autofree char *key = xstrndup(args->v[i], (size_t)(eq - args->v[i]));
		struct json *pair = json_new_array();

		json_add(pair, json_new_string(key));
		json_add(pair, json_new_string(eq + 1));
		json_add(array, pair);
	}
	return array;
}

char *cni_record_format(const struct cni_record *r)
{
	autojson struct json *j = json_new_object();
	autobuf struct buf config = BUF_INIT(2 * RECORD_MAX);
	struct json *own = json_new_object();

	base64_encode(r->config, strlen(r->config), &config);
	json_set_string(j, "kind", KIND);
	json_set_string(j, "containerId", r->id);
	json_set_string(j, "config", config.data);
	json_set_string(j, "ifName", r->ifname);
	json_set_string(j, "networkName", r->network);
	if (!str_empty(r->netns))
		json_set_string(j, "netns", r->netns);
	if (r->args.n)
		json_set(j, "cniArgs", encode_args(&r->args));
	if (json_object_len(r->capabilities))
		json_set(j, "capabilityArgs", json_copy(r->capabilities));
	if (r->result)
		json_set(j, "result", json_copy(r->result));
	json_set(own, "builtin", json_new_strv(&r->builtin));
	json_set(j, "kistl", own);
	return json_format(j, false);
}

static int parse_args(const struct json *array, struct strv *ret, struct error *err)
{
	for (size_t i = 0; i < json_array_len(array); i++) {
		const struct json *pair = json_array_get(array, i);
		const char *key = json_string(json_array_get(pair, 0));
		const char *value = json_string(json_array_get(pair, 1));

		if (!key || !value || strchr(key, '='))
			return error_set(err, ERROR_DATA_LOSS, "cniArgs[%zu]: expected two strings",
					 i);
		strv_push_printf(ret, "%s=%s", key, value);
	}
	return 0;
}

int cni_record_parse(const char *text, size_t len, struct cni_record *ret, struct error *err)
{
	autojson struct json *j = json_parse(text, len, RECORD_MAX, err);
	autocnirecord struct cni_record r = CNI_RECORD_INIT;
	autobuf struct buf config = BUF_INIT(CNI_DOCUMENT_MAX);
	const char *encoded = json_get_string(j, "config");
	const struct json *own = json_get(j, "kistl");

	if (!j)
		return -1;
	if (!str_equal(json_get_string(j, "kind"), KIND))
		return error_set(err, ERROR_DATA_LOSS, "kind: expected '" KIND "'");
	r.id = xstrdup(json_get_string(j, "containerId"));
	r.ifname = xstrdup(json_get_string(j, "ifName"));
	r.network = xstrdup(json_get_string(j, "networkName"));
	r.netns = xstrdup(json_get_string(j, "netns"));
	if (!cni_name_valid(r.id) || !cni_ifname_valid(r.ifname) || !cni_name_valid(r.network))
		return error_set(err, ERROR_DATA_LOSS,
				 "containerId, ifName or networkName is missing or invalid");
	if (!encoded || base64_decode(encoded, strlen(encoded), &config) < 0 ||
	    strlen(config.data) != config.len)
		return error_set(err, ERROR_DATA_LOSS, "config: expected text in base64");
	r.config = buf_steal(&config, NULL);
	if (parse_args(json_get(j, "cniArgs"), &r.args, err) < 0)
		return -1;
	if (json_type(json_get(j, "capabilityArgs")) == JSON_OBJECT)
		r.capabilities = json_copy(json_get(j, "capabilityArgs"));
	if (json_type(json_get(j, "result")) == JSON_OBJECT)
		r.result = json_copy(json_get(j, "result"));
	r.foreign = !own;
	if (json_get_strv(own, "builtin", &r.builtin, err) < 0)
		return -1;
	*ret = r;
	r = CNI_RECORD_INIT;
	return 0;
}

static char *results_dir(const struct cni *c)
{
	return path_join(c->cache_dir, "results", NULL);
}

/* The names have been checked: none has a slash. */
static char *record_path(const struct cni *c, const char *network, const char *id,
			 const char *ifname)
{
	autofree char *dir = results_dir(c);

	return xasprintf("%s/%s-%s-%s", dir, network, id, ifname);
}

int cni_record_save(const struct cni *c, const struct cni_record *r, struct error *err)
{
	autofree char *dir = results_dir(c);
	autofree char *path = record_path(c, r->network, r->id, r->ifname);
	autofree char *text = cni_record_format(r);
	int n = fs_mkdir_p(dir, 0700);

	/* Not synced: after a crash of the machine there is nothing left to undo but addresses,
	 * which the configuration leads to as well. */
	if (n == 0)
		n = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, /* sync= */ false);
	return n < 0 ? error_errno(err, -n, "write the network's record '%s'", path) : 0;
}

static int load_path(const char *path, struct cni_record *ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(RECORD_MAX);
	int r = fs_read(AT_FDCWD, path, &b);

	if (r < 0)
		return error_errno(err, -r, "read '%s'", path);
	if (cni_record_parse(b.data, b.len, ret, err) < 0) {
		if (err)
			err->code = ERROR_DATA_LOSS;
		return error_wrap(err, "'%s'", path);
	}
	return 0;
}

int cni_record_load(const struct cni *c, const char *network, const char *id, const char *ifname,
		    struct cni_record *ret, struct error *err)
{
	autofree char *path = record_path(c, network, id, ifname);

	return load_path(path, ret, err);
}

/* "<network>-<id>-<ifname>", all three of which may have dashes. */
static bool may_be(const char *file, const char *id, const char *ifname)
{
	autofree char *suffix = xasprintf("-%s-%s", id, ifname);

	return str_has_suffix(file, suffix) && strlen(file) > strlen(suffix);
}

int cni_record_find(const struct cni *c, const char *id, const char *ifname, struct cni_record *ret,
		    struct error *err)
{
	autofree char *dir = results_dir(c);
	DIR *d = opendir(dir);
	autoerror struct error first = ERROR_INIT;
	struct dirent *e;
	int r = -1;

	if (!d)
		return error_errno(err, errno, "open '%s'", dir);
	error_set(&first, ERROR_NOT_FOUND, "no record of a network of '%s'", id);
	while (r < 0 && (e = readdir(d))) {
		autofree char *path = path_join(dir, e->d_name, NULL);
		autocnirecord struct cni_record found = CNI_RECORD_INIT;

		if (!may_be(e->d_name, id, ifname))
			continue;
		r = load_path(path, &found, &first);
		if (r == 0 && (!str_equal(found.id, id) || !str_equal(found.ifname, ifname)))
			r = -1;
		if (r == 0) {
			*ret = found;
			found = CNI_RECORD_INIT;
		}
	}
	closedir(d);
	return r < 0 ? error_move(err, &first) : 0;
}

void cni_record_delete(const struct cni *c, const struct cni_record *r)
{
	autofree char *path = record_path(c, r->network, r->id, r->ifname);

	unlink(path);
}

/* The names first: what fn does may change the directory. */
int cni_records_each(const struct cni *c, int (*fn)(const struct cni_record *r, void *arg),
		     void *arg, struct error *err)
{
	autofree char *dir = results_dir(c);
	autostrv struct strv names = STRV_INIT;
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0 : error_errno(err, errno, "open '%s'", dir);
	while ((e = readdir(d))) {
		if (e->d_name[0] != '.')
			strv_push(&names, e->d_name);
	}
	closedir(d);
	strv_sort(&names);
	for (size_t i = 0; i < names.n; i++) {
		autocnirecord struct cni_record r = CNI_RECORD_INIT;
		autofree char *path = path_join(dir, names.v[i], NULL);
		int result;

		/* Other versions' and half-written files are nobody's. */
		if (load_path(path, &r, NULL) < 0)
			continue;
		result = fn(&r, arg);
		if (result != 0)
			return result;
	}
	return 0;
}
