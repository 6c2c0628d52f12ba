/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files are told apart by inode, since their names move while we read. At the end of one, its inode
 * is looked for among the names: found as PATH it is the live one; found as PATH.k, PATH.(k-1) is
 * next; not found, it has been rotated away, and the oldest that is left is next. A file that is
 * seen to be rotated is read to its end once more before it is left: the writer may have added to
 * it between.
 */

#include "engine/jsonlog.h"

#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX 1000
#define BLOCK (64 << 10)

struct jsonlog {
	char *path;
	struct log_options options;
	int fd;	      /* < 0: none yet */
	bool drained; /* read to the end after it had been rotated */
	bool past;
	struct buf in; /* not yet given out */
	size_t taken;  /* bytes of `in` that the last line took */
	bool skipping; /* within a line that is too long */
	struct buf text;
};

static char *file_name(const char *path, unsigned k)
{
	return k == 0 ? xstrdup(path) : xasprintf("%s.%u", path, k);
}

static int open_file(const char *path, unsigned k)
{
	autofree char *name = file_name(path, k);

	return open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static unsigned oldest(const char *path)
{
	unsigned k = 0;

	for (; k < FILES_MAX; k++) {
		autofree char *name = file_name(path, k + 1);

		if (access(name, F_OK) < 0)
			break;
	}
	return k;
}

/* The offset from which `*want` complete lines remain in the file, or 0 when there are fewer (then
 * *want is lowered by what it has). */
static off_t tail_offset(int fd, int64_t *want)
{
	autofree char *block = xmalloc(BLOCK);
	struct stat st;
	off_t at = fstat(fd, &st) == 0 ? st.st_size : 0;
	int64_t seen = -1; /* the newline of the last line starts none */

	while (at > 0) {
		off_t from = MAX(at - BLOCK, (off_t)0);
		ssize_t n = pread(fd, block, (size_t)(at - from), from);

		if (n <= 0)
			break;
		for (ssize_t i = n - 1; i >= 0; i--)
			if (block[i] == '\n' && ++seen == *want)
				return from + i + 1;
		at = from;
	}
	/* All newlines but those counted: each ends a line, the first line has none before it. */
	*want -= seen + 1;
	return 0;
}

static int seek_tail(struct jsonlog *l)
{
	int64_t want = l->options.tail;
	unsigned last = oldest(l->path);

	for (unsigned k = 0; k <= last; k++) {
		int fd = open_file(l->path, k);

		if (fd < 0)
			continue;
		if (l->fd >= 0)
			close(l->fd);
		l->fd = fd;
		off_t at = want == 0 ? lseek(fd, 0, SEEK_END) : tail_offset(fd, &want);
		lseek(fd, at, SEEK_SET);
		if (at > 0 || want <= 0)
			return 0;
	}
	return 0;
}

int jsonlog_open(const char *path, const struct log_options *o, struct jsonlog **ret,
		 struct error *err)
{
	struct jsonlog *l = xnew(struct jsonlog);

	l->path = xstrdup(path);
	l->options = *o;
	l->fd = -EBADF;
	l->in = BUF_INIT(JSONLOG_LINE_MAX + BLOCK);
	l->text = BUF_INIT(JSONLOG_LINE_MAX);
	if (o->tail >= 0)
		seek_tail(l);
	else
		l->fd = open_file(path, oldest(path));
	if (l->fd < 0 && errno != ENOENT) {
		int saved = errno;

		jsonlog_close(l);
		return error_errno(err, saved, "open log '%s'", path);
	}
	*ret = l;
	return 0;
}

void jsonlog_close(struct jsonlog *l)
{
	if (!l)
		return;
	closep(&l->fd);
	buf_done(&l->in);
	buf_done(&l->text);
	free(l->path);
	free(l);
}

bool jsonlog_is_past(const struct jsonlog *l)
{
	return l->past;
}

/* -1: by none of the names. */
static int name_of(struct jsonlog *l, const struct stat *st)
{
	for (unsigned k = 0; k <= FILES_MAX; k++) {
		autofree char *name = file_name(l->path, k);
		struct stat other;

		if (stat(name, &other) < 0) {
			if (k > 0)
				break;
			continue;
		}
		if (other.st_ino == st->st_ino && other.st_dev == st->st_dev)
			return (int)k;
	}
	return -1;
}

/* At the end of the current file: true when there is another to go on with (or this one once more).
 */
static bool next_file(struct jsonlog *l)
{
	struct stat st;

	if (l->fd < 0) {
		l->fd = open_file(l->path, 0);
		return l->fd >= 0;
	}
	if (fstat(l->fd, &st) < 0)
		return false;
	int k = name_of(l, &st);
	if (k == 0)
		return false;
	if (!l->drained) {
		l->drained = true;
		return true;
	}
	int fd = open_file(l->path, k > 0 ? (unsigned)k - 1 : oldest(l->path));
	if (fd < 0)
		return false;
	close(l->fd);
	l->fd = fd;
	l->drained = false;
	/* Half a line at the end of a file that is written no more is no line. */
	buf_clear(&l->in);
	l->skipping = false;
	return true;
}

/* More bytes into `in`: 1, 0 at the end, -1. */
static int fill(struct jsonlog *l, struct error *err)
{
	do {
		if (l->fd < 0)
			continue;
		buf_reserve(&l->in, BLOCK);
		ssize_t n = read(l->fd, l->in.data + l->in.len, BLOCK);
		if (n < 0)
			return error_errno(err, errno, "read log '%s'", l->path);
		if (n > 0) {
			buf_advance(&l->in, (size_t)n);
			return 1;
		}
	} while (next_file(l));
	return 0;
}

/* 1: a line is in [in.data, *ret_len). */
static int next_raw(struct jsonlog *l, size_t *ret_len, struct error *err)
{
	size_t searched = 0;

	buf_consume(&l->in, l->taken);
	l->taken = 0;
	for (;;) {
		char *newline = memchr(l->in.data + searched, '\n', l->in.len - searched);

		if (newline) {
			size_t len = (size_t)(newline - l->in.data);

			if (l->skipping) {
				l->skipping = false;
				buf_consume(&l->in, len + 1);
				searched = 0;
				continue;
			}
			*ret_len = len;
			l->taken = len + 1;
			return 1;
		}
		searched = l->in.len;
		if (l->in.len > JSONLOG_LINE_MAX) {
			l->skipping = true;
			buf_clear(&l->in);
			searched = 0;
		}
		int r = fill(l, err);
		if (r <= 0)
			return r;
		/* A new file may have begun, without what was searched. */
		searched = MIN(searched, l->in.len);
	}
}

static bool wanted(const struct log_options *o, const struct log_line *line)
{
	return (line->is_stderr ? o->errs : o->out) && (o->since <= 0 || line->time >= o->since);
}

int jsonlog_next(struct jsonlog *l, struct log_line *ret, struct error *err)
{
	size_t len;

	while (!l->past) {
		int r = next_raw(l, &len, err);

		if (r <= 0)
			return r;
		if (jsonlog_parse(l->in.data, len, &l->text, ret) < 0)
			continue;
		if (l->options.until > 0 && ret->time > l->options.until)
			l->past = true;
		else if (wanted(&l->options, ret))
			return 1;
	}
	return 0;
}
