/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcrypto's plain SHA functions, which use the CPU's instructions as EVP does, without what EVP
 * brings: fetching a provider loads configuration, allocates, and leaves 2.5 MiB more resident.
 */
#include "oci/digest.h"

#include "base/hex.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#define READ_CHUNK (256 << 10)

struct digester {
	const struct algorithm *algorithm;
	union {
		SHA256_CTX sha256;
		SHA512_CTX sha512;
	};
};

static void sha256_init(struct digester *d)
{
	SHA256_Init(&d->sha256);
}

static void sha256_update(struct digester *d, const void *p, size_t n)
{
	SHA256_Update(&d->sha256, p, n);
}

static void sha256_final(struct digester *d, unsigned char *out)
{
	SHA256_Final(out, &d->sha256);
}

static void sha512_init(struct digester *d)
{
	SHA512_Init(&d->sha512);
}

static void sha512_update(struct digester *d, const void *p, size_t n)
{
	SHA512_Update(&d->sha512, p, n);
}

static void sha512_final(struct digester *d, unsigned char *out)
{
	SHA512_Final(out, &d->sha512);
}

static const struct algorithm {
	const char *prefix;
	size_t size;
	void (*init)(struct digester *d);
	void (*update)(struct digester *d, const void *p, size_t n);
	void (*final)(struct digester *d, unsigned char *out);
} algorithms[] = {
	{ "sha256:", SHA256_DIGEST_LENGTH, sha256_init, sha256_update, sha256_final },
	{ "sha512:", SHA512_DIGEST_LENGTH, sha512_init, sha512_update, sha512_final },
};

static const struct algorithm *algorithm_of(const char *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (str_has_prefix(s, algorithms[i].prefix))
			return &algorithms[i];
	return NULL;
}

static void start(struct digester *d, const char *like)
{
	d->algorithm = algorithm_of(like);
	assert(d->algorithm);
	d->algorithm->init(d);
}

struct digester *digester_new(const char *like)
{
	struct digester *d = xnew(struct digester);

	start(d, like ? like : "sha256:");
	return d;
}

void digester_free(struct digester *d)
{
	free(d);
}

void digester_update(struct digester *d, const void *p, size_t n)
{
	d->algorithm->update(d, p, n);
}

/* Ends the digester. */
static void finish(struct digester *d, char out[DIGEST_MAX])
{
	unsigned char md[SHA512_DIGEST_LENGTH];
	size_t prefix = strlen(d->algorithm->prefix), size = d->algorithm->size;

	d->algorithm->final(d, md);
	assert(prefix + 2 * size < DIGEST_MAX);
	memcpy(out, d->algorithm->prefix, prefix);
	hex_encode(md, size, out + prefix);
}

void digester_peek(const struct digester *d, char out[DIGEST_MAX])
{
	struct digester copy = *d;

	finish(&copy, out);
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
	struct digester d;

	start(&d, "sha256:");
	digester_update(&d, p, n);
	finish(&d, out);
}

void digest_chain(const char *parent, const char *diff_id, char out[DIGEST_MAX])
{
	size_t len = strlen(diff_id);
	struct digester d;

	assert(len < DIGEST_MAX);
	if (str_empty(parent)) {
		memcpy(out, diff_id, len + 1);
		return;
	}
	/* out may be parent. */
	start(&d, "sha256:");
	digester_update(&d, parent, strlen(parent));
	digester_update(&d, " ", 1);
	digester_update(&d, diff_id, len);
	finish(&d, out);
}
