/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/logfile.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "shim/logremote.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FLUSH_AT ((size_t)64 << 10)
#define ATTRS_MAX ((size_t)64 << 10)

struct logfile {
	struct log_options options;
	int fd;
	int64_t size;
	bool failing; /* said so once already */
	char *attrs;
	struct logremote *remote;
	struct log_cutter cutters[LOG_STREAM_MAX];
	enum log_stream current;
};

/* Formatted lines on their way to a file: empty between calls, so all logs share it. */
static struct buf scratch = { .data = buf_empty,
			      .max = FLUSH_AT + LOG_LINE_CEILING + LOG_FORMATTED_MAX + ATTRS_MAX };

static int open_file(struct logfile *l, int flags, struct error *err)
{
	const char *path = l->options.path;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | flags, 0640);

	if (fd < 0 && errno == ENOENT) {
		autofree char *dir = xstrndup(path, (size_t)(path_base(path) - path));

		fs_mkdir_p(dir, 0755);
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | flags, 0640);
	}
	if (fd < 0)
		return error_errno(err, errno, "open log '%s'", path);

	struct stat st;
	l->size = fstat(fd, &st) == 0 ? st.st_size : 0;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = fd;
	return 0;
}

int logfile_open(const struct log_options *options, struct logfile **ret, struct error *err)
{
	struct logfile *l = xnew(struct logfile);

	l->options = *options;
	l->options.path = xstrdup(options->path);
	l->attrs = xstrdup(options->attrs);
	l->fd = -1;
	for (int i = 0; i < LOG_STREAM_MAX && options->driver == LOG_DRIVER_CRI; i++)
		l->cutters[i].max =
			options->max_line < 0 ? LOG_LINE_CEILING : (size_t)options->max_line;
	if (open_file(l, 0, err) < 0 ||
	    (options->remote && logremote_open(options->remote, &l->remote, err) < 0)) {
		logfile_free(l);
		return -1;
	}
	*ret = l;
	return 0;
}

static void flush(struct logfile *l)
{
	if (scratch.len == 0)
		return;
	int r = fs_write_all(l->fd, scratch.data, scratch.len);
	if (r < 0 && !l->failing)
		log_err("write log '%s': %s, losing lines", l->options.path, strerror(-r));
	l->failing = r < 0;
	l->size += (int64_t)scratch.len;
	buf_clear(&scratch);
}

static char *numbered(const char *path, int64_t n)
{
	return n == 0 ? xstrdup(path) : xasprintf("%s.%lld", path, (long long)n);
}

static void rotate(struct logfile *l)
{
	autoerror struct error err = ERROR_INIT;

	flush(l);
	for (int64_t n = l->options.max_files - 1; n > 0; n--) {
		autofree char *from = numbered(l->options.path, n - 1);
		autofree char *to = numbered(l->options.path, n);

		/* The older ones need not exist yet. */
		if (rename(from, to) < 0 && errno != ENOENT)
			log_warn("rotate log '%s': %s, ignoring", from, strerror(errno));
	}
	if (open_file(l, O_TRUNC, &err) < 0)
		log_err("%s, going on with the old file", error_msg(&err));
}

static void on_line(const struct log_line *line, void *arg)
{
	struct logfile *l = arg;
	const char *stream = l->current == LOG_STDOUT ? "stdout" : "stderr";

	if (l->options.max_size > 0 && l->size + (int64_t)scratch.len >= l->options.max_size)
		rotate(l);
	if (l->options.driver == LOG_DRIVER_CRI)
		log_format_cri(&scratch, line, stream);
	else
		log_format_json(&scratch, line, stream, l->attrs);
	if (l->remote)
		logremote_line(l->remote, line, l->current == LOG_STDERR);
	if (scratch.len >= FLUSH_AT)
		flush(l);
}

void logfile_write(struct logfile *l, enum log_stream stream, const char *p, size_t n, int64_t now)
{
	l->current = stream;
	log_cutter_feed(&l->cutters[stream], p, n, now, on_line, l);
	flush(l);
}

void logfile_end(struct logfile *l, enum log_stream stream)
{
	l->current = stream;
	log_cutter_end(&l->cutters[stream], on_line, l);
	flush(l);
}

int logfile_reopen(struct logfile *l, struct error *err)
{
	return open_file(l, 0, err);
}

void logfile_free(struct logfile *l)
{
	if (!l)
		return;
	for (int i = 0; i < LOG_STREAM_MAX; i++)
		log_cutter_done(&l->cutters[i]);
	if (l->fd >= 0)
		close(l->fd);
	logremote_free(l->remote);
	free(l->attrs);
	free(l->options.path);
	free(l);
}
