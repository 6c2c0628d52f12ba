#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests "sha256:<64 hex>", "sha512:<128 hex>" (OCI image-spec, descriptor.md#digests). A string
 * from outside is checked with digest_valid() before it goes near a path. Any thread.
 */

#include "base/error.h"

#define DIGEST_MAX 144 /* with NUL */
#define DIGEST_SHA256_LEN 71

/* Known algorithm, exact length, lower-case hex. */
bool digest_valid(const char *s);
/* As the reference grammar allows it (unknown algorithms too). */
bool digest_grammar_valid(const char *s);
/* The hexadecimal part of a valid digest. Borrowed. */
const char *digest_hex(const char *digest);
/* "blobs/sha256/<hex>"; malloc'ed; the digest must be valid. */
char *digest_blob_path(const char *digest);

struct digester; /* incremental hash */

/* For the algorithm of `like` (NULL: sha256). */
struct digester *digester_new(const char *like);
void digester_free(struct digester *d);
void digester_update(struct digester *d, const void *p, size_t n);
/* Current digest without ending it: more updates may follow. */
void digester_peek(const struct digester *d, char out[DIGEST_MAX]);
/* Hashes a descriptor from its current offset to EOF. */
int digester_update_fd(struct digester *d, int fd, struct error *err);

void digest_bytes(const void *p, size_t n, char out[DIGEST_MAX]); /* sha256 */
/* chain = ChainID(parent, diff_id); parent NULL or "": diff_id itself. */
void digest_chain(const char *parent, const char *diff_id, char out[DIGEST_MAX]);

DEFINE_CLEANUP(struct digester *, digester_free)
