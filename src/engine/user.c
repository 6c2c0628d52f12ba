/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files belong to the image, so they are hostile: a passwd that is a FIFO, a device or a link
 * to the host's must neither block nor be read, and a number must not wrap around to root
 * (CVE-2024-40635).
 */

#include "engine/user.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/parse.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define USER_FILE_MAX (4 << 20)
#define ID_MAX 2147483647

void user_ids_done(struct user_ids *u)
{
	free(u->home);
	*u = (struct user_ids){ 0 };
}

/* The fields of one line "a:b:c", in place; at most max. */
struct fields {
	const char *v[8];
	size_t len[8];
	size_t n;
};

static const char *next_line(const char *text, struct fields *ret)
{
	const char *end = text + strcspn(text, "\n");

	ret->n = 0;
	for (const char *p = text; ret->n < 8;) {
		const char *colon = memchr(p, ':', (size_t)(end - p));
		const char *stop = colon ? colon : end;

		ret->v[ret->n] = p;
		ret->len[ret->n++] = (size_t)(stop - p);
		if (!colon)
			break;
		p = colon + 1;
	}
	return *end ? end + 1 : end;
}

static bool field_is(const struct fields *f, size_t i, const char *s)
{
	return i < f->n && f->len[i] == strlen(s) && memcmp(f->v[i], s, f->len[i]) == 0;
}

static bool number_parse(const char *s, size_t len, uint32_t *ret)
{
	uint64_t v = 0;

	if (len == 0 || len > 10)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	if (v > ID_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool all_digits(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "0123456789")] == '\0';
}

static bool field_number(const struct fields *f, size_t i, uint32_t *ret)
{
	return i < f->n && number_parse(f->v[i], f->len[i], ret);
}

struct passwd_entry {
	char name[256];
	uint32_t uid, gid;
	char *home; /* owned */
};

/* By name, or by uid when name is NULL. */
static bool passwd_find(const char *text, const char *name, uint32_t uid, struct passwd_entry *ret)
{
	struct fields f;

	while (text && *text) {
		uint32_t id, gid;

		text = next_line(text, &f);
		if (f.n < 4 || f.len[0] == 0 || f.len[0] >= sizeof(ret->name) ||
		    !field_number(&f, 2, &id) || !field_number(&f, 3, &gid))
			continue;
		if (name ? !field_is(&f, 0, name) : id != uid)
			continue;
		memcpy(ret->name, f.v[0], f.len[0]);
		ret->name[f.len[0]] = '\0';
		ret->uid = id;
		ret->gid = gid;
		ret->home = f.n > 5 && f.len[5] > 0 ? xstrndup(f.v[5], f.len[5]) : NULL;
		return true;
	}
	return false;
}

static bool group_find(const char *text, const char *name, uint32_t *ret)
{
	struct fields f;

	while (text && *text) {
		text = next_line(text, &f);
		if (field_is(&f, 0, name) && field_number(&f, 2, ret))
			return true;
	}
	return false;
}

static void group_add(struct user_ids *u, uint32_t gid)
{
	for (size_t i = 0; i < u->n_groups; i++) {
		if (u->groups[i] == gid)
			return;
	}
	if (u->n_groups < USER_GROUPS_MAX)
		u->groups[u->n_groups++] = gid;
}

static bool member_of(const struct fields *f, const char *user)
{
	size_t len = strlen(user);
	const char *p = f->v[3], *end = p + f->len[3];

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma ? comma : end;

		if ((size_t)(stop - p) == len && memcmp(p, user, len) == 0)
			return true;
		p = stop + 1;
	}
	return false;
}

static void groups_of_user(const char *text, const char *user, struct user_ids *u)
{
	struct fields f;

	while (text && *text) {
		uint32_t gid;

		text = next_line(text, &f);
		if (f.n >= 4 && field_number(&f, 2, &gid) && member_of(&f, user))
			group_add(u, gid);
	}
}

static int group_resolve(const char *name, const char *group, uint32_t *ret, struct error *err)
{
	if (group_find(group, name, ret))
		return 0;
	if (!all_digits(name))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "unable to find group %s: no matching entries in group file",
				 name);
	if (!number_parse(name, strlen(name), ret))
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "gid '%s' is out of range: uids and gids must be in range 0-%d",
				 name, ID_MAX);
	return 0;
}

static int user_part(const char *name, const char *passwd, struct user_ids *ret,
		     struct passwd_entry *entry, bool *ret_known, struct error *err)
{
	uint32_t uid = 0;

	*ret_known = true;
	if (name[0] == '\0') {
		*ret_known = passwd_find(passwd, NULL, 0, entry);
	} else if (!passwd_find(passwd, name, 0, entry)) {
		if (!all_digits(name))
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"unable to find user %s: no matching entries in passwd file", name);
		if (!number_parse(name, strlen(name), &uid))
			return error_set(
				err, ERROR_INVALID_ARGUMENT,
				"uid '%s' is out of range: uids and gids must be in range 0-%d",
				name, ID_MAX);
		*ret_known = passwd_find(passwd, NULL, uid, entry);
	}
	ret->uid = *ret_known ? entry->uid : uid;
	ret->gid = *ret_known ? entry->gid : 0;
	if (*ret_known)
		ret->home = TAKE_PTR(entry->home);
	return 0;
}

int user_resolve_text_by(const char *spec, const char *passwd, const char *group,
			 const char *const *add, size_t n_add, enum groups_policy policy,
			 struct user_ids *ret, struct error *err)
{
	const char *colon = spec ? strchr(spec, ':') : NULL;
	autofree char *name =
		colon ? xstrndup(spec, (size_t)(colon - spec)) : xstrdup(spec ? spec : "");
	struct passwd_entry entry = { 0 };
	struct user_ids u = { 0 };
	bool known;

	if (user_part(name, passwd, &u, &entry, &known, err) < 0)
		return -1;
	bool given = colon && colon[1] != '\0';
	if (given && group_resolve(colon + 1, group, &u.gid, err) < 0) {
		user_ids_done(&u);
		return -1;
	}
	/* The main group belongs to the supplementary ones (CVE-2023-25173). */
	group_add(&u, u.gid);
	if (known && (policy == GROUPS_MERGE || (policy == GROUPS_DOCKER && !given)))
		groups_of_user(group, entry.name, &u);
	for (size_t i = 0; i < n_add; i++) {
		uint32_t gid;

		if (group_resolve(add[i], group, &gid, err) < 0) {
			user_ids_done(&u);
			return -1;
		}
		group_add(&u, gid);
	}
	*ret = u;
	return 0;
}

int user_resolve_text(const char *spec, const char *passwd, const char *group,
		      const char *const *add, size_t n_add, struct user_ids *ret, struct error *err)
{
	return user_resolve_text_by(spec, passwd, group, add, n_add, GROUPS_DOCKER, ret, err);
}

/* The file's text, or NULL when there is none or it is not a plain file. */
static char *read_in_root(int rootfs_fd, const char *path)
{
	autobuf struct buf b = BUF_INIT(USER_FILE_MAX);
	autoclose int fd = fs_open_in_root(rootfs_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fs_read_fd(fd, &b) < 0)
		return NULL;
	return buf_steal(&b, NULL);
}

int user_resolve_by(int rootfs_fd, const char *spec, const char *const *add, size_t n_add,
		    enum groups_policy policy, struct user_ids *ret, struct error *err)
{
	autofree char *passwd = read_in_root(rootfs_fd, "etc/passwd");
	autofree char *group = read_in_root(rootfs_fd, "etc/group");

	return user_resolve_text_by(spec, passwd, group, add, n_add, policy, ret, err);
}

int user_resolve(int rootfs_fd, const char *spec, const char *const *add, size_t n_add,
		 struct user_ids *ret, struct error *err)
{
	return user_resolve_by(rootfs_fd, spec, add, n_add, GROUPS_DOCKER, ret, err);
}
