/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed copies of OCI runtimes (base/program.h), one a program for the daemon's life, handed to
 * each shim as descriptor 4. In the shims it would be a copy for each container. A runtime that has
 * been replaced on disk is copied anew.
 */

#include "base/fs.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/program.h"
#include "task/internal.h"

#include <fcntl.h>
#include <sys/stat.h>

struct sealed {
	struct list node;
	char *path;
	struct stat of; /* what was copied */
	int fd;		/* -1: cannot be */
};

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct sealed *find(struct tasks *m, const char *path)
{
	LIST_FOREACH (s, &m->sealed, struct sealed, node)
		if (str_equal(s->path, path))
			return s;
	struct sealed *s = xnew(struct sealed);
	s->path = xstrdup(path);
	s->fd = -1;
	list_append(&m->sealed, &s->node);
	return s;
}

int sealed_open(struct tasks *m, const char *runtime, char **ret_path)
{
	autofree char *path = process_find(runtime, NULL);
	struct stat st;
	int fd = -1;

	if (!path || !program_wants_seal(path) || stat(path, &st) < 0)
		return -1;
	pthread_mutex_lock(&m->lock);
	struct sealed *s = find(m, path);
	if (!same_file(&s->of, &st)) {
		if (s->fd >= 0)
			close(s->fd);
		/* Half a MiB, once: worth no dance without the lock. */
		s->fd = program_seal(path, NULL);
		s->of = st;
	}
	if (s->fd >= 0)
		fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 5);
	pthread_mutex_unlock(&m->lock);
	if (fd >= 0)
		*ret_path = TAKE_PTR(path);
	return fd;
}

void sealed_free_all(struct tasks *m)
{
	LIST_FOREACH (s, &m->sealed, struct sealed, node) {
		list_remove(&s->node);
		if (s->fd >= 0)
			close(s->fd);
		free(s->path);
		free(s);
	}
}
