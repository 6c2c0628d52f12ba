/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mount-plan.h"
#include "base/mem.h"

#include <string.h>
#include <sys/mount.h>

#define MS_ATIMES (MS_NOATIME | MS_RELATIME | MS_STRICTATIME)
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

/* Each word also exists with an "r" in front: for the whole tree. */
static const struct {
	const char *name;
	struct mount_attrs attrs;
} words[] = {
	{ "ro", { MOUNT_ATTR_RDONLY, 0, MS_RDONLY, 0 } },
	{ "rw", { 0, MOUNT_ATTR_RDONLY, 0, MS_RDONLY } },
	{ "nosuid", { MOUNT_ATTR_NOSUID, 0, MS_NOSUID, 0 } },
	{ "suid", { 0, MOUNT_ATTR_NOSUID, 0, MS_NOSUID } },
	{ "nodev", { MOUNT_ATTR_NODEV, 0, MS_NODEV, 0 } },
	{ "dev", { 0, MOUNT_ATTR_NODEV, 0, MS_NODEV } },
	{ "noexec", { MOUNT_ATTR_NOEXEC, 0, MS_NOEXEC, 0 } },
	{ "exec", { 0, MOUNT_ATTR_NOEXEC, 0, MS_NOEXEC } },
	{ "nodiratime", { MOUNT_ATTR_NODIRATIME, 0, MS_NODIRATIME, 0 } },
	{ "diratime", { 0, MOUNT_ATTR_NODIRATIME, 0, MS_NODIRATIME } },
	{ "nosymfollow", { MOUNT_ATTR_NOSYMFOLLOW, 0, MS_NOSYMFOLLOW, 0 } },
	{ "symfollow", { 0, MOUNT_ATTR_NOSYMFOLLOW, 0, MS_NOSYMFOLLOW } },
	{ "noatime", { MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME, MS_NOATIME, MS_ATIMES } },
	{ "strictatime", { MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, MS_STRICTATIME, MS_ATIMES } },
	{ "relatime", { MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, MS_RELATIME, MS_ATIMES } },
	{ "atime", { MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, MS_RELATIME, MS_ATIMES } },
	{ "norelatime", { MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, MS_STRICTATIME, MS_ATIMES } },
	{ "nostrictatime", { MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME, MS_RELATIME, MS_ATIMES } },
};

static const struct {
	const char *name;
	unsigned long type;
	bool tree;
} propagations[] = {
	{ "shared", MS_SHARED, false },		{ "rshared", MS_SHARED, true },
	{ "private", MS_PRIVATE, false },	{ "rprivate", MS_PRIVATE, true },
	{ "slave", MS_SLAVE, false },		{ "rslave", MS_SLAVE, true },
	{ "unbindable", MS_UNBINDABLE, false }, { "runbindable", MS_UNBINDABLE, true },
};

static const struct mount_attrs *find_word(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i].attrs;
	return NULL;
}

/* Later words win. */
static void apply(struct mount_attrs *a, const struct mount_attrs *word)
{
	a->set = (a->set & ~word->clear) | word->set;
	a->clear = (a->clear & ~word->set) | word->clear;
	a->classic_set = (a->classic_set & ~word->classic_clear) | word->classic_set;
	a->classic_clear = (a->classic_clear & ~word->classic_set) | word->classic_clear;
}

static bool take_propagation(struct mount_plan *p, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++) {
		if (strcmp(propagations[i].name, word) == 0) {
			p->propagation = propagations[i].type;
			p->propagation_tree = propagations[i].tree;
			return true;
		}
	}
	return false;
}

static bool take_word(struct mount_plan *p, const char *word)
{
	const struct mount_attrs *attrs = find_word(word);

	if (attrs) {
		apply(&p->top, attrs);
		return true;
	}
	attrs = word[0] == 'r' ? find_word(word + 1) : NULL;
	if (attrs) {
		apply(&p->top, attrs);
		apply(&p->tree, attrs);
		return true;
	}
	if (strcmp(word, "bind") == 0 || strcmp(word, "rbind") == 0) {
		p->bind = true;
		p->recursive |= word[0] == 'r';
		return true;
	}
	return take_propagation(p, word);
}

/* Words for programs, not for the kernel. */
static bool is_noise(const char *word)
{
	return !*word || strcmp(word, "defaults") == 0 || strcmp(word, "async") == 0 ||
	       str_has_prefix(word, "x-") || str_has_prefix(word, "X-");
}

int mount_plan_make(const struct mount *m, struct mount_plan *ret, struct error *err)
{
	CLEANUP(mount_plan_done) struct mount_plan p = { .bind = str_equal(m->type, "bind") };

	for (size_t i = 0; i < m->options.n; i++) {
		const char *word = m->options.v[i];

		if (str_has_prefix(word, "uidmap=") || str_has_prefix(word, "gidmap="))
			return error_set(err, ERROR_UNIMPLEMENTED,
					 "mount option '%s' is not supported", word);
		if (str_has_prefix(word, MOUNT_IDMAP_OPTION))
			p.idmap = word + strlen(MOUNT_IDMAP_OPTION);
		else if (!is_noise(word) && !take_word(&p, word))
			strv_push(&p.data, word);
	}
	*ret = p;
	p.data = STRV_INIT;
	return 0;
}

void mount_plan_done(struct mount_plan *p)
{
	strv_done(&p->data);
}

static int classic_bind(const struct mount *m, const struct mount_plan *p, const char *target,
			struct error *err)
{
	unsigned long flags = p->top.classic_set;

	if (p->idmap)
		return error_set(err, ERROR_UNIMPLEMENTED, "this kernel has no ID-mapped mounts");
	/* mount(2) changes one mount at a time: "rro" would be a promise not kept. */
	if (p->tree.set || p->tree.clear)
		return error_set(err, ERROR_UNIMPLEMENTED,
				 "this kernel has no recursive mount attributes");
	if (mount(m->source, target, NULL, MS_BIND | (p->recursive ? MS_REC : 0), NULL) < 0)
		return error_errno(err, errno, "bind '%s' to '%s'", m->source, target);
	if (flags && mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0) {
		error_errno(err, errno, "remount '%s'", target);
		umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
		return -1;
	}
	return 0;
}

int mount_classic(const struct mount *m, const struct mount_plan *p, const char *target,
		  struct error *err)
{
	if (p->bind) {
		if (classic_bind(m, p, target, err) < 0)
			return -1;
	} else {
		autofree char *data = strv_join(&p->data, ",");

		if (mount(m->source, target, m->type, p->top.classic_set, data) < 0)
			return error_errno(err, errno, "mount %s on '%s'", m->type, target);
	}
	unsigned long type = p->propagation | (p->propagation_tree ? MS_REC : 0);

	if (p->propagation && mount(NULL, target, NULL, type, NULL) < 0) {
		error_errno(err, errno, "set the propagation of '%s'", target);
		umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
		return -1;
	}
	return 0;
}

void overlay_layers_split(const char *value, struct overlay_layers *ret)
{
	autofree char *part = xmalloc(strlen(value) + 1);
	struct strv *to = &ret->lower;
	size_t n = 0;

	for (const char *p = value;; p++) {
		if (*p == '\\' && p[1]) {
			part[n++] = *++p;
			continue;
		}
		if (*p && *p != ':') {
			part[n++] = *p;
			continue;
		}
		part[n] = '\0';
		if (n > 0)
			strv_push(to, part);
		else if (*p)
			to = &ret->data;
		n = 0;
		if (!*p)
			return;
	}
}

void overlay_layers_done(struct overlay_layers *l)
{
	strv_done(&l->lower);
	strv_done(&l->data);
}
