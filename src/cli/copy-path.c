/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/copy-path.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/strv.h"

#include <string.h>

bool copy_split(const char *arg, char **ret_container, const char **ret_path)
{
	const char *colon = strchr(arg, ':');

	*ret_path = arg;
	*ret_container = NULL;
	if (arg[0] == '/' || arg[0] == '.' || !colon)
		return false;
	*ret_container = xstrndup(arg, (size_t)(colon - arg));
	*ret_path = colon + 1;
	return true;
}

char *copy_clean(const char *path)
{
	autostrv struct strv parts = STRV_INIT;
	autobuf struct buf out = BUF_INIT(BUF_NO_LIMIT);
	bool absolute = path[0] == '/';

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		bool up = n == 2 && memcmp(p, "..", 2) == 0;

		if (up && parts.n && strcmp(parts.v[parts.n - 1], "..") != 0)
			free(parts.v[--parts.n]);
		else if (n && !(n == 1 && *p == '.') && !(up && absolute))
			strv_push_printf(&parts, "%.*s", (int)n, p);
		p += n + (p[n] == '/');
	}
	if (absolute)
		buf_putc(&out, '/');
	for (size_t i = 0; i < parts.n; i++)
		buf_printf(&out, "%s%s", i ? "/" : "", parts.v[i]);
	if (!out.len)
		buf_putc(&out, '.');
	return xstrdup(out.data);
}

static bool names_current(const char *path)
{
	return strcmp(path_base(path), ".") == 0;
}

bool copy_names_directory(const char *path)
{
	size_t n = strlen(path);

	return (n && path[n - 1] == '/') || names_current(path);
}

void copy_split_entry(const char *path, char **ret_dir, char **ret_base)
{
	autofree char *clean = copy_clean(path);
	const char *base = path_base(clean);
	size_t n = (size_t)(base - clean);

	if (names_current(path)) {
		*ret_dir = TAKE_PTR(clean);
		*ret_base = xstrdup(".");
		return;
	}
	*ret_base = xstrdup(*base ? base : "/");
	*ret_dir = n > 1 ? xstrndup(clean, n - 1) : xstrdup(n ? "/" : ".");
}

void copy_plan_done(struct copy_plan *p)
{
	free(TAKE_PTR(p->dir));
	free(TAKE_PTR(p->name));
}

int copy_plan(const char *source_base, bool source_is_dir, const char *to, bool exists, bool is_dir,
	      struct copy_plan *ret, struct error *err)
{
	if (exists && is_dir) {
		ret->dir = xstrdup(to);
		ret->name = xstrdup(source_base);
		return 0;
	}
	if (exists && source_is_dir)
		return error_set(err, ERROR_INVALID_ARGUMENT, "cannot copy directory");
	if (!source_is_dir && copy_names_directory(to))
		return error_set(err, ERROR_NOT_FOUND,
				 exists ? "not a directory" : "no such directory");
	copy_split_entry(to, &ret->dir, &ret->name);
	return 0;
}

char *copy_rename(const char *path, const char *base, const char *name)
{
	const char *rest = path;

	while (rest[0] == '.' && rest[1] == '/')
		rest += 2 + strspn(rest + 2, "/");
	if (strcmp(rest, ".") == 0)
		rest++;
	if (strcmp(base, ".") != 0 && strcmp(base, "/") != 0) {
		rest += strcspn(rest, "/");
		rest += strspn(rest, "/");
	}
	if (strcmp(name, ".") == 0)
		return xstrdup(*rest ? rest : ".");
	return *rest ? path_join(name, rest, NULL) : xstrdup(name);
}
