/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/streaming-tls.h"

#include "base/mem.h"

#include <assert.h>
#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>

/* By its file's name, which stands for its interface. */
#define LIBRARY "libssl.so.3"

#define SSL_FUNCTIONS(f)                                                                    \
	f(TLS_server_method) f(SSL_CTX_new) f(SSL_CTX_free) f(SSL_CTX_ctrl)                 \
		f(SSL_CTX_use_certificate_chain_file) f(SSL_CTX_use_PrivateKey_file)        \
			f(SSL_CTX_check_private_key) f(SSL_CTX_load_verify_locations)       \
				f(SSL_CTX_set_verify) f(SSL_new) f(SSL_free) f(SSL_set_bio) \
					f(SSL_set_accept_state) f(SSL_read) f(SSL_write)    \
						f(SSL_get_error) f(SSL_shutdown)

static struct {
#define MEMBER(name) __typeof__(&name) p_##name;
	SSL_FUNCTIONS(MEMBER)
#undef MEMBER
} api;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[256];

struct tls_context {
	SSL_CTX *ctx;
};

struct tls {
	SSL *ssl;
	BIO *in, *out; /* of ssl */
};

static void *find(void *library, const char *name)
{
	void *f = dlsym(library, name);

	if (!f)
		snprintf(failure, sizeof(failure), "%s has no %s", LIBRARY, name);
	return f;
}

static void load(void)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		const char *why = dlerror();

		snprintf(failure, sizeof(failure), "%s", why ? why : LIBRARY);
		return;
	}
#define FIND(name) api.p_##name = (__typeof__(api.p_##name))find(library, #name);
	SSL_FUNCTIONS(FIND)
#undef FIND
}

static int ssl_error(struct error *err, const char *file)
{
	char text[256];

	ERR_error_string_n(ERR_get_error(), text, sizeof(text));
	ERR_clear_error();
	return error_set(err, ERROR_INVALID_ARGUMENT, "streaming server's TLS: '%s': %s", file,
			 text);
}

static int configure(SSL_CTX *ctx, const struct streaming_tls *files, struct error *err)
{
	api.p_SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	/* What has been passed on is not there any more when a write is tried again. */
	api.p_SSL_CTX_ctrl(ctx, SSL_CTRL_MODE,
			   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS, NULL);
	if (api.p_SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1)
		return ssl_error(err, files->cert);
	if (api.p_SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1 ||
	    api.p_SSL_CTX_check_private_key(ctx) != 1)
		return ssl_error(err, files->key);
	if (!files->ca)
		return 0;
	if (api.p_SSL_CTX_load_verify_locations(ctx, files->ca, NULL) != 1)
		return ssl_error(err, files->ca);
	api.p_SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

int tls_context_new(const struct streaming_tls *files, struct tls_context **ret, struct error *err)
{
	if (!files->cert || !files->key)
		return error_set(err, ERROR_INVALID_ARGUMENT,
				 "streaming server's TLS: certificate and key go together");
	pthread_once(&once, load);
	if (failure[0])
		return error_set(err, ERROR_UNAVAILABLE, "load libssl: %s", failure);
	SSL_CTX *ctx = api.p_SSL_CTX_new(api.p_TLS_server_method());
	if (!ctx)
		return error_set(err, ERROR_INTERNAL, "cannot make a TLS context");
	if (configure(ctx, files, err) < 0) {
		api.p_SSL_CTX_free(ctx);
		return -1;
	}
	*ret = xnew(struct tls_context);
	(*ret)->ctx = ctx;
	return 0;
}

void tls_context_free(struct tls_context *t)
{
	if (!t)
		return;
	api.p_SSL_CTX_free(t->ctx);
	free(t);
}

struct tls *tls_new(struct tls_context *context)
{
	struct tls *t = xnew(struct tls);

	t->ssl = api.p_SSL_new(context->ctx);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	assert(t->ssl && t->in && t->out); /* else out of memory */
	api.p_SSL_set_bio(t->ssl, t->in, t->out);
	api.p_SSL_set_accept_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	api.p_SSL_free(t->ssl);
	free(t);
}

void tls_feed(struct tls *t, const void *p, size_t n)
{
	assert(n <= INT32_MAX);
	BIO_write(t->in, p, (int)n);
}

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	assert(n > 0 && n <= INT32_MAX);
	int r = api.p_SSL_read(t->ssl, p, (int)n);
	int why = r > 0 ? SSL_ERROR_NONE : api.p_SSL_get_error(t->ssl, r);

	ERR_clear_error();
	if (r > 0)
		return r;
	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

int tls_write(struct tls *t, const void *p, size_t n)
{
	assert(n > 0 && n <= INT32_MAX);
	int r = api.p_SSL_write(t->ssl, p, (int)n);

	ERR_clear_error();
	return r == (int)n ? 0 : -1;
}

void tls_shutdown(struct tls *t)
{
	api.p_SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void tls_take(struct tls *t, struct buf *out)
{
	size_t n = BIO_ctrl_pending(t->out);

	if (n == 0 || buf_reserve(out, n) < 0)
		return;
	int r = BIO_read(t->out, out->data + out->len, (int)n);
	if (r > 0)
		buf_advance(out, (size_t)r);
}
