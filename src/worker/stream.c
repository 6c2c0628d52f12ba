/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/stream.h"

#include "base/mem.h"

#include <fcntl.h>
#include <sys/stat.h>

#define INPUT_SIZE (256 << 10)
#define PIPE_SIZE (1 << 20)

struct source {
	struct stream *stream;
	uint8_t *buffer;
	const uint8_t *in;
	size_t n;
	bool eof;
};

static int refill(struct source *s, struct error *err)
{
	ssize_t r;

	do {
		r = read(s->stream->input, s->buffer, INPUT_SIZE);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_errno(err, errno, "read the input");
	atomic_fetch_add(&s->stream->consumed, r);
	s->in = s->buffer;
	s->n = (size_t)r;
	s->eof = r == 0;
	return 0;
}

/* Fills buffers whole, so that readers are woken seldom. *ret_len < RING_BUFFER_SIZE: the end. */
static int fill(struct source *s, struct decompress *d, uint8_t *out, size_t *ret_len,
		struct error *err)
{
	size_t len = 0, got;

	while (len < RING_BUFFER_SIZE) {
		if (s->n == 0 && !s->eof && refill(s, err) < 0)
			return -1;
		if (decompress_run(d, &s->in, &s->n, s->eof, out + len, RING_BUFFER_SIZE - len,
				   &got, err) < 0)
			return -1;
		len += got;
		if (s->eof && s->n == 0 && got == 0)
			break;
	}
	*ret_len = len;
	return 0;
}

static int inflate_all(struct stream *s, struct error *err)
{
	CLEANUP(decompress_freep) struct decompress *d = decompress_new(&s->limits);
	autofree uint8_t *buffer = xmalloc(INPUT_SIZE);
	struct source source = { .stream = s, .buffer = buffer };
	size_t len = RING_BUFFER_SIZE;

	while (len == RING_BUFFER_SIZE) {
		uint8_t *out = ring_fill(&s->ring);
		if (!out)
			return 0;
		if (fill(&source, d, out, &len, err) < 0)
			return -1;
		if (len > 0)
			ring_filled(&s->ring, len);
	}
	return 0;
}

static void *inflate_thread(void *arg)
{
	struct stream *s = arg;
	struct error err = ERROR_INIT;

	inflate_all(s, &err);
	ring_end(&s->ring, &err);
	return NULL;
}

int stream_start(struct stream *s, int input, const struct decompress_limits *limits,
		 unsigned readers, struct error *err)
{
	pthread_t thread;
	struct stat st;

	s->input = input;
	s->limits = *limits;
	s->size = fstat(input, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
	ring_init(&s->ring, readers);
	/* Both only make it faster. */
	(void)fcntl(input, F_SETPIPE_SZ, PIPE_SIZE);
	(void)posix_fadvise(input, 0, 0, POSIX_FADV_SEQUENTIAL);
	int r = pthread_create(&thread, NULL, inflate_thread, s);
	if (r != 0)
		return error_errno(err, r, "start a thread");
	pthread_detach(thread);
	return 0;
}
