/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of network configurations: the first file that is one, in lexical order. */
#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "network/cni-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#define FILES_MAX 1000
#define LOAD_ERROR_MAX 4096

void cni_loaded_done(struct cni_loaded *l)
{
	free(l->network);
	free(l->file);
	free(l->text);
	free(l->reason);
	free(l->load_error);
	*l = (struct cni_loaded){ 0 };
}

/* Names with one of the suffixes (end with NULL), sorted. 0 or -errno. */
static int list_files(const char *dir, const char *const *suffixes, struct strv *ret)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return -errno;
	while (ret->n < FILES_MAX && (e = readdir(d))) {
		for (size_t i = 0; suffixes[i] && e->d_name[0] != '.'; i++) {
			if (e->d_type != DT_DIR && str_has_suffix(e->d_name, suffixes[i]))
				strv_push(ret, e->d_name);
		}
	}
	closedir(d);
	strv_sort(ret);
	return 0;
}

/* <dir>/<name>/<plugin>.conf, unless the list says that it is complete. */
static int add_separate(const char *dir, struct cni_list *l, struct error *err)
{
	static const char *const suffixes[] = { ".conf", NULL };
	autofree char *own = path_join(dir, l->name, NULL);
	autostrv struct strv names = STRV_INIT;
	int r = list_files(own, suffixes, &names);

	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		return error_errno(err, -r, "open '%s'", own);
	for (size_t i = 0; i < names.n; i++) {
		autofree char *path = path_join(own, names.v[i], NULL);
		autobuf struct buf b = BUF_INIT(CNI_DOCUMENT_MAX);

		r = fs_read(AT_FDCWD, path, &b);
		if (r < 0)
			return error_errno(err, -r, "read '%s'", path);
		if (cni_list_add(l, b.data, b.len, err) < 0)
			return error_wrap(err, "'%s'", path);
	}
	return 0;
}

static int load_file(const char *dir, const char *path, struct cni_list *ret, struct error *err)
{
	autobuf struct buf b = BUF_INIT(CNI_DOCUMENT_MAX);
	CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
	int r = fs_read(AT_FDCWD, path, &b);

	if (r < 0)
		return error_errno(err, -r, "read");
	if (cni_list_parse(b.data, b.len, !str_has_suffix(path, ".conflist"), &l, err) < 0)
		return -1;
	if (!l.inlined_only && add_separate(dir, &l, err) < 0)
		return -1;
	if (l.n == 0)
		return error_set(err, ERROR_INVALID_ARGUMENT, "no plugins");
	*ret = l;
	l = CNI_LIST_INIT;
	return 0;
}

/* What is neither built in nor found; NULL: nothing. */
static char *missing_plugin(const struct cni *c, const struct cni_list *l)
{
	autostrv struct strv builtin = STRV_INIT;

	cni_builtin_types(c, l, &builtin);
	for (size_t i = 0; i < l->n; i++) {
		const char *types[] = {
			l->v[i].type,
			json_get_string(json_get(l->v[i].config, "ipam"), "type"),
		};

		for (size_t k = 0; k < ARRAY_SIZE(types); k++) {
			autofree char *path = NULL;
			autofree char *dirs = strv_join(&c->bin_dirs, ", ");

			if (str_empty(types[k]) || strv_contains(&builtin, types[k]))
				continue;
			path = cni_plugin_find(c, types[k]);
			if (!path)
				return xasprintf("network '%s': plugin '%s' is not in %s", l->name,
						 types[k], dirs);
		}
	}
	return NULL;
}

static bool has_external(const struct cni *c, const struct cni_list *l)
{
	autostrv struct strv builtin = STRV_INIT;

	cni_builtin_types(c, l, &builtin);
	for (size_t i = 0; i < l->n; i++) {
		if (!strv_contains(&builtin, l->v[i].type))
			return true;
	}
	return false;
}

static char *no_network(const struct cni *c, int r)
{
	if (r < 0 && r != -ENOENT)
		return xasprintf("cannot read network configurations in '%s': %s", c->conf_dir,
				 strerror(-r));
	if (c->network)
		return xasprintf("no network configuration named '%s' found in %s", c->network,
				 c->conf_dir);
	return xasprintf("no network configuration found in %s", c->conf_dir);
}

void cni_load(const struct cni *c, struct cni_loaded *ret)
{
	static const char *const suffixes[] = { ".conflist", ".conf", ".json", NULL };
	autobuf struct buf bad = BUF_INIT(LOAD_ERROR_MAX);
	autostrv struct strv names = STRV_INIT;
	int r = list_files(c->conf_dir, suffixes, &names);

	*ret = (struct cni_loaded){ 0 };
	for (size_t i = 0; i < names.n && !ret->text; i++) {
		autofree char *path = path_join(c->conf_dir, names.v[i], NULL);
		CLEANUP(cni_list_done) struct cni_list l = CNI_LIST_INIT;
		autoerror struct error err = ERROR_INIT;

		if (load_file(c->conf_dir, path, &l, &err) < 0) {
			buf_printf(&bad, "%s%s: %s", bad.len ? "; " : "", path, err.msg);
			continue;
		}
		if (c->network && !str_equal(c->network, l.name))
			continue;
		ret->network = xstrdup(l.name);
		ret->file = TAKE_PTR(path);
		ret->text = cni_list_format(&l);
		ret->reason = missing_plugin(c, &l);
		ret->external = has_external(c, &l);
		ret->asks = ret->external && l.version >= CNI_1_1_0;
	}
	if (bad.len)
		ret->load_error = xstrdup(bad.data);
	if (ret->text)
		return;
	ret->reason = no_network(c, r);
	if (ret->load_error) {
		autofree char *reason = TAKE_PTR(ret->reason);

		ret->reason = xasprintf("%s (%s)", reason, ret->load_error);
	}
}
