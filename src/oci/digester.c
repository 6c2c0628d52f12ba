/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/digest.h"

#include "base/hex.h"
#include "base/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#define READ_CHUNK (256 << 10)

static struct algorithm {
	const char *prefix;
	const char *evp_name;
	size_t hex_len;
	EVP_MD *md; /* fetched once: a fetch costs more than a small hash */
} algorithms[] = {
	{ .prefix = "sha256:", .evp_name = "SHA256", .hex_len = 64 },
	{ .prefix = "sha512:", .evp_name = "SHA512", .hex_len = 128 },
};

static pthread_once_t fetch_once = PTHREAD_ONCE_INIT;

struct digester {
	const struct algorithm *algorithm;
	EVP_MD_CTX *ctx;
};

static void fetch_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
		algorithms[i].md = EVP_MD_fetch(NULL, algorithms[i].evp_name, NULL);
		if (!algorithms[i].md)
			abort();
	}
}

static const struct algorithm *algorithm_of(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (str_has_prefix(s, algorithms[i].prefix))
			return &algorithms[i];
	return NULL;
}

struct digester *digester_new(const char *like)
{
	const struct algorithm *a = algorithm_of(like ? like : "sha256:");

	assert(a);
	pthread_once(&fetch_once, fetch_all);
	struct digester *d = xnew(struct digester);

	d->algorithm = a;
	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx || EVP_DigestInit_ex2(d->ctx, a->md, NULL) != 1)
		abort();
	return d;
}

void digester_free(struct digester *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digester_update(struct digester *d, const void *p, size_t n)
{
	if (EVP_DigestUpdate(d->ctx, p, n) != 1)
		abort();
}

/* Ends the context. */
static void finish(const struct algorithm *a, EVP_MD_CTX *ctx, char out[DIGEST_MAX])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n;
	size_t prefix = strlen(a->prefix);

	if (EVP_DigestFinal_ex(ctx, md, &n) != 1)
		abort();
	assert(n * 2 == a->hex_len && prefix + a->hex_len < DIGEST_MAX);
	memcpy(out, a->prefix, prefix);
	hex_encode(md, n, out + prefix);
}

void digester_peek(const struct digester *d, char out[DIGEST_MAX])
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();

	if (!copy || EVP_MD_CTX_copy_ex(copy, d->ctx) != 1)
		abort();
	finish(d->algorithm, copy, out);
	EVP_MD_CTX_free(copy);
}

int digester_update_fd(struct digester *d, int fd, struct error *err)
{
	autofree char *chunk = xmalloc(READ_CHUNK);

	for (;;) {
		ssize_t n = read(fd, chunk, READ_CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "read");
		if (n == 0)
			return 0;
		digester_update(d, chunk, (size_t)n);
	}
}

void digest_bytes(const void *p, size_t n, char out[DIGEST_MAX])
{
	struct digester *d = digester_new(NULL);

	digester_update(d, p, n);
	finish(d->algorithm, d->ctx, out);
	digester_free(d);
}

void digest_chain(const char *parent, const char *diff_id, char out[DIGEST_MAX])
{
	size_t len = strlen(diff_id);

	assert(len < DIGEST_MAX);
	if (str_empty(parent)) {
		memcpy(out, diff_id, len + 1);
		return;
	}
	/* out may be parent. */
	struct digester *d = digester_new(NULL);

	digester_update(d, parent, strlen(parent));
	digester_update(d, " ", 1);
	digester_update(d, diff_id, len);
	finish(d->algorithm, d->ctx, out);
	digester_free(d);
}
