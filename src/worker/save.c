/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the files that the daemon lists into one tar. The same list gives the same bytes: no
 * times, no owners, directories before the first file in them, ustar headers with pax records only
 * where a path or a size needs them.
 */

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "oci/worker-proto.h"
#include "worker/meter.h"
#include "worker/verbs.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>

#define BLOCK 512
#define COPY_STEP (1 << 20)
#define USTAR_SIZE_MAX 077777777777LL

struct save {
	int sock;
	int out;
	struct map dirs;
	int64_t n_files;
};

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag;
	char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8];
	char prefix[155], pad[12];
};

static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

static void done(struct save *s)
{
	closep(&s->out);
	map_done(&s->dirs);
}

static int put(struct save *s, const void *p, size_t n, struct error *err)
{
	int r = fs_write_all(s->out, p, n);

	return r < 0 ? error_errno(err, -r, "write the archive") : 0;
}

static int put_padding(struct save *s, int64_t size, struct error *err)
{
	static const char zeros[BLOCK];

	return put(s, zeros, (size_t)(-size & (BLOCK - 1)), err);
}

static int put_block(struct save *s, char type, const char *name, unsigned mode, int64_t size,
		     struct error *err)
{
	struct header h = { .typeflag = type, .magic = "ustar", .version = { '0', '0' } };
	unsigned sum = 0;

	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	snprintf(h.mode, sizeof(h.mode), "%07o", mode);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0);
	snprintf(h.size, sizeof(h.size), "%011llo",
		 (unsigned long long)(size > USTAR_SIZE_MAX ? 0 : size));
	snprintf(h.mtime, sizeof(h.mtime), "%011o", 0);
	memset(h.chksum, ' ', sizeof(h.chksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	snprintf(h.chksum, sizeof(h.chksum), "%06o", sum);
	return put(s, &h, sizeof(h), err);
}

/* "LEN key=value\n", where LEN counts itself. */
static void pax_record(struct buf *b, const char *key, const char *value)
{
	size_t bare = strlen(key) + strlen(value) + 3, len = bare + 1;

	for (size_t limit = 10; len >= limit; limit *= 10)
		len++;
	buf_printf(b, "%zu %s=%s\n", len, key, value);
}

static int put_header(struct save *s, char type, const char *path, unsigned mode, int64_t size,
		      struct error *err)
{
	autobuf struct buf pax = BUF_INIT(16 << 10);
	char number[32];

	if (strlen(path) > sizeof(((struct header *)0)->name))
		pax_record(&pax, "path", path);
	snprintf(number, sizeof(number), "%lld", (long long)size);
	if (size > USTAR_SIZE_MAX)
		pax_record(&pax, "size", number);
	if (pax.len > 0 &&
	    (put_block(s, 'x', "pax", 0644, (int64_t)pax.len, err) < 0 ||
	     put(s, pax.data, pax.len, err) < 0 || put_padding(s, (int64_t)pax.len, err) < 0))
		return -1;
	return put_block(s, type, path, mode, size, err);
}

static int put_parents(struct save *s, const char *path, struct error *err)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		autofree char *dir = xstrndup(path, (size_t)(slash - path) + 1);
		if (map_get(&s->dirs, dir))
			continue;
		map_set(&s->dirs, dir, s);
		if (put_header(s, '5', dir, 0755, 0, err) < 0)
			return -1;
	}
	return 0;
}

static int copy_some(int out, int in, off_t *offset, size_t n)
{
	ssize_t r = sendfile(out, in, offset, n);
	if (r >= 0 || (errno != EINVAL && errno != ENOSYS))
		return r < 0 ? -errno : (int)r;
	/* An output that takes no pages (opened with O_APPEND, say). */
	char buf[64 << 10];
	r = pread(in, buf, MIN(n, sizeof(buf)), *offset);
	if (r <= 0)
		return r < 0 ? -errno : 0;
	*offset += r;
	int w = fs_write_all(out, buf, (size_t)r);
	return w < 0 ? w : (int)r;
}

static int put_data(struct save *s, const char *path, int fd, int64_t size, struct error *err)
{
	struct meter meter = { .sock = s->sock, .n = s->n_files, .total = size };
	off_t offset = 0;

	while (offset < size) {
		int r = copy_some(s->out, fd, &offset, (size_t)MIN(size - offset, COPY_STEP));
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0)
			return error_errno(err, -r, "write '%s' to the archive", path);
		if (r == 0)
			return error_set(err, ERROR_DATA_LOSS, "'%s' ends after %lld of %lld bytes",
					 path, (long long)offset, (long long)size);
		if (meter_report(&meter, offset, offset == size, err) < 0)
			return -1;
	}
	return put_padding(s, size, err);
}

static int put_file(struct save *s, const struct worker_message *m, struct error *err)
{
	const char *path = json_get_string(m->json, "path");
	int64_t size = json_get_int(m->json, "size", -1);

	if (str_empty(path) || path[0] == '/' || strlen(path) > 4096 || size < 0 || m->n_fds != 1)
		return error_set(err, ERROR_INVALID_ARGUMENT, "invalid file message");
	if (put_parents(s, path, err) < 0 || put_header(s, '0', path, 0644, size, err) < 0)
		return -1;
	if (put_data(s, path, m->fds[0], size, err) < 0)
		return -1;
	s->n_files++;
	return 0;
}

static int finish(struct save *s, struct error *err)
{
	static const char zeros[2 * BLOCK];

	return put(s, zeros, sizeof(zeros), err);
}

int worker_save(int sock, struct error *err)
{
	CLEANUP(done) struct save s = { .sock = sock, .out = -EBADF };
	CLEANUP(worker_message_done) struct worker_message first = WORKER_MESSAGE_INIT;

	if (worker_recv(sock, &first, err) < 0)
		return -1;
	if (!str_equal(json_get_string(first.json, "op"), "save") || first.n_fds != 1)
		return error_set(err, ERROR_INVALID_ARGUMENT, "expected a save message");
	s.out = TAKE_FD(first.fds[0]);
	struct sandbox sandbox = { .phase = SANDBOX_ARCHIVE };
	if (worker_start(sock, &sandbox, err) < 0)
		return -1;
	for (;;) {
		CLEANUP(worker_message_done) struct worker_message m = WORKER_MESSAGE_INIT;
		if (worker_recv(sock, &m, err) < 0)
			return -1;
		const char *op = json_get_string(m.json, "op");
		if (str_equal(op, "end"))
			return finish(&s, err);
		if (!str_equal(op, "file"))
			return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected message");
		if (put_file(&s, &m, err) < 0)
			return -1;
	}
}
