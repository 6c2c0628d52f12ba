#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS for a server, sans-IO. libssl is loaded when a context is made, so a daemon without TLS does
 * not have it. A context is for any thread, a connection for one at a time.
 */

#include "api/cri/streaming.h"
#include "base/buf.h"

struct tls_context;
struct tls;

/* UNAVAILABLE: no libssl; INVALID_ARGUMENT: a file cannot be used, named. */
int tls_context_new(const struct streaming_tls *files, struct tls_context **ret, struct error *err);
void tls_context_free(struct tls_context *t);

struct tls *tls_new(struct tls_context *t);
void tls_free(struct tls *t);
/* Bytes from the peer; then tls_read() until it has no more, then tls_take(). */
void tls_feed(struct tls *t, const void *p, size_t n);
/* Plain bytes; 0: none for now; -1: the peer has ended, or fails. */
ssize_t tls_read(struct tls *t, void *p, size_t n);
/* Once the handshake is done, as it is after the first plain byte. */
int tls_write(struct tls *t, const void *p, size_t n);
void tls_shutdown(struct tls *t);
/* What is to be sent to the peer. */
void tls_take(struct tls *t, struct buf *out);
