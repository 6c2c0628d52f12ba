/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of a pull: every layer at once, a thread for each; bytes go from curl through sha256 and inflate into
 * a file as they come. No tar, no second digest, no metadata, no sync: what nobody who pulls can do without.
 *
 * usage: limit-pull gzip|zstd DIRECTORY URL...
 */
#include <assert.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define OUT_SIZE (256 * 1024)

struct layer {
	const char *url;
	pthread_t thread;
	int fd;
	EVP_MD_CTX *sha;
	struct inflate_state gzip;
	ZSTD_DStream *zstd;
	unsigned char out[OUT_SIZE];
};

static void put(struct layer *l, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = write(l->fd, l->out + done, n - done);

		assert(r > 0);
		done += (size_t)r;
	}
}

static void inflate_gzip(struct layer *l, unsigned char *data, size_t n)
{
	l->gzip.next_in = data;
	l->gzip.avail_in = (uint32_t)n;
	do {
		l->gzip.next_out = l->out;
		l->gzip.avail_out = OUT_SIZE;
		int r = isal_inflate(&l->gzip);

		assert(r == ISAL_DECOMP_OK || r == ISAL_END_INPUT);
		put(l, OUT_SIZE - l->gzip.avail_out);
		/* pigz and others may append members. */
		if (l->gzip.block_state == ISAL_BLOCK_FINISH && l->gzip.avail_in > 0)
			isal_inflate_reset(&l->gzip);
	} while (l->gzip.avail_out == 0 || l->gzip.avail_in > 0);
}

static void inflate_zstd(struct layer *l, const void *data, size_t n)
{
	ZSTD_inBuffer in = { data, n, 0 };
	ZSTD_outBuffer out;

	do {
		out = (ZSTD_outBuffer){ l->out, OUT_SIZE, 0 };
		size_t r = ZSTD_decompressStream(l->zstd, &out, &in);

		assert(!ZSTD_isError(r));
		put(l, out.pos);
	} while (out.pos == OUT_SIZE || in.pos < in.size);
}

static size_t on_data(char *data, size_t one, size_t n, void *arg)
{
	struct layer *l = arg;

	EVP_DigestUpdate(l->sha, data, n);
	if (l->zstd)
		inflate_zstd(l, data, n);
	else
		inflate_gzip(l, (unsigned char *)data, n);
	return one * n;
}

static void *fetch(void *arg)
{
	struct layer *l = arg;
	CURL *curl = curl_easy_init();
	unsigned char digest[EVP_MAX_MD_SIZE];

	assert(curl);
	curl_easy_setopt(curl, CURLOPT_URL, l->url);
	curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)OUT_SIZE);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, l);
	CURLcode r = curl_easy_perform(curl);

	if (r != CURLE_OK) {
		fprintf(stderr, "limit-pull: %s: %s\n", l->url, curl_easy_strerror(r));
		exit(1);
	}
	EVP_DigestFinal_ex(l->sha, digest, NULL);
	curl_easy_cleanup(curl);
	return NULL;
}

static void start(struct layer *l, const char *url, const char *dir, int i, int zstd)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/limit-layer-%d", dir, i);
	l->url = url;
	l->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(l->fd >= 0);
	l->sha = EVP_MD_CTX_new();
	EVP_DigestInit_ex(l->sha, EVP_sha256(), NULL);
	isal_inflate_init(&l->gzip);
	l->gzip.crc_flag = ISAL_GZIP;
	if (zstd)
		l->zstd = ZSTD_createDStream();
	assert(pthread_create(&l->thread, NULL, fetch, l) == 0);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: limit-pull gzip|zstd DIRECTORY URL...\n");
		return 2;
	}
	int n = argc - 3;
	struct layer *layers = calloc((size_t)n, sizeof(*layers));

	assert(layers);
	curl_global_init(CURL_GLOBAL_ALL);
	for (int i = 0; i < n; i++)
		start(&layers[i], argv[3 + i], argv[2], i, strcmp(argv[1], "zstd") == 0);
	for (int i = 0; i < n; i++)
		pthread_join(layers[i].thread, NULL);
	return 0;
}
