/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HEAD before GET: registries count GETs of manifests against a quota, and most pulls of a tag find
 * that nothing is new. HEAD replies have no body, so what is wrong is asked for again by GET.
 */
#include "base/mem.h"
#include "base/parse.h"
#include "worker/fetch.h"
#include "worker/headers.h"
#include "worker/retry.h"

#include <string.h>

#define ACCEPT_MANIFESTS                                                                \
	"Accept: " MEDIA_DOCKER_MANIFEST ", " MEDIA_DOCKER_LIST ", " MEDIA_OCI_MANIFEST \
	", " MEDIA_OCI_INDEX ", */*"

void document_done(struct document *d)
{
	descriptor_done(&d->descriptor);
	buf_done(&d->text);
}

/* Of the endpoints after the i-th to be asked, is none another host's? */
static bool is_last_host(const struct fetch *f, size_t i, unsigned can)
{
	const struct registry *r = f->registry;
	const struct endpoint *e = &r->endpoints[(f->preferred + i) % r->n];

	while (++i < r->n) {
		const struct endpoint *later = &r->endpoints[(f->preferred + i) % r->n];

		if ((later->can & can) && !str_equal(later->host, e->host))
			return false;
	}
	return true;
}

/* fn on each endpoint that can do it, until one succeeds; the preferred one first. */
static int each_endpoint(struct fetch *f, unsigned can,
			 int (*fn)(struct fetch *f, struct endpoint *e, bool last,
				   struct document *d, const char *arg, struct error *err),
			 struct document *d, const char *arg, struct error *err)
{
	struct registry *r = f->registry;
	autoerror struct error first = ERROR_INIT;
	const char *first_host = NULL;
	bool asked = false;

	for (size_t i = 0; i < r->n; i++) {
		size_t index = (f->preferred + i) % r->n;
		struct endpoint *e = &r->endpoints[index];
		autoerror struct error now = ERROR_INIT;

		if (!(e->can & can) || (index > f->preferred && registry_is_alternate(r, index)))
			continue;
		asked = true;
		if (fn(f, e, is_last_host(f, i, can), d, arg, &now) == 0) {
			f->preferred = index;
			return 0;
		}
		/* The last one's word counts; but of one host's two schemes, the first one's. */
		if (str_equal(first_host, e->host) && now.code == ERROR_UNAVAILABLE)
			continue;
		error_done(&first);
		error_move(&first, &now);
		first_host = e->host;
	}
	if (!asked)
		return error_set(err, ERROR_FAILED_PRECONDITION,
				 "no configured host of '%s' may be asked for this", r->ref.domain);
	return error_move(err, &first);
}

static int wrong_digest(const char *what, const char *got, const char *wanted, struct error *err)
{
	return error_set(err, ERROR_DATA_LOSS, "%s has digest '%s', not '%s'", what, got, wanted);
}

/* The body of a 200: hashed, compared, its media type noted. */
static int take_document(const struct http_response *r, const char *what, struct document *d,
			 struct error *err)
{
	const char *told = http_header(r, "docker-content-digest");
	const char *wanted = d->descriptor.digest;
	CLEANUP(digester_freep) struct digester *digester = NULL;
	char digest[DIGEST_MAX];

	if (!wanted && told && digest_valid(told))
		wanted = told;
	digester = digester_new(wanted);
	digester_update(digester, r->body.data, r->body.len);
	digester_peek(digester, digest);
	if (wanted && !str_equal(wanted, digest))
		return wrong_digest(what, digest, wanted, err);
	if (d->descriptor.size > 0 && (size_t)d->descriptor.size != r->body.len)
		return error_set(err, ERROR_DATA_LOSS, "%s has %zu bytes, not %lld", what,
				 r->body.len, (long long)d->descriptor.size);
	str_replace(&d->descriptor.digest, digest);
	d->descriptor.size = (int64_t)r->body.len;
	if (str_empty(d->descriptor.media_type)) {
		autofree char *type = header_media_type(http_header(r, "content-type"));

		str_replace(&d->descriptor.media_type, type);
	}
	buf_clear(&d->text);
	if (buf_append(&d->text, r->body.data, r->body.len) < 0)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "%s is larger than %d bytes", what,
				 OCI_MANIFEST_MAX);
	return 0;
}

/* object: "manifests/<tag or digest>" or "blobs/<digest>" */
static int get_document(struct fetch *f, struct endpoint *e, bool last, struct document *d,
			const char *object, struct error *err)
{
	autoresponse struct http_response r = HTTP_RESPONSE_INIT(OCI_MANIFEST_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = registry_url(f->registry, e, "%s", object);
	autofree char *public = url_public(url);
	bool manifest = str_has_prefix(object, "manifests/");

	q.method = "GET";
	q.url = url;
	if (manifest && !str_empty(d->descriptor.media_type))
		strv_push_printf(&q.headers, "Accept: %s, */*", d->descriptor.media_type);
	else if (manifest)
		strv_push(&q.headers, ACCEPT_MANIFESTS);
	if (registry_request(f->registry, e, &q, f->scope, last, &r, err) < 0)
		return -1;
	if (r.status == 200)
		return take_document(&r, public, d, err);
	http_status_error(&q, &r, err);
	if (r.status == 404 && manifest) {
		autofree char *name = reference_string(&f->registry->ref);

		return error_wrap(err, "manifest for '%s' not found: manifest unknown", name);
	}
	return -1;
}

/* A HEAD that says all that we need. */
static bool head_is_enough(const struct http_response *r, struct document *d)
{
	const char *digest = http_header(r, "docker-content-digest");
	const char *length = http_header(r, "content-length");
	autofree char *type = header_media_type(http_header(r, "content-type"));
	int64_t size;

	if (r->status != 200 || !digest || !digest_valid(digest) || !length ||
	    parse_int64(length, &size) < 0 || size <= 0)
		return false;
	if (media_kind(type) != MEDIA_KIND_INDEX && media_kind(type) != MEDIA_KIND_MANIFEST)
		return false;
	str_replace(&d->descriptor.digest, digest);
	str_replace(&d->descriptor.media_type, type);
	d->descriptor.size = size;
	return true;
}

static int resolve_tag(struct fetch *f, struct endpoint *e, bool last, struct document *d,
		       const char *object, struct error *err)
{
	autoresponse struct http_response r = HTTP_RESPONSE_INIT(OCI_MANIFEST_MAX);
	autorequest struct http_request q = HTTP_REQUEST_INIT;
	autofree char *url = registry_url(f->registry, e, "%s", object);

	q.method = "HEAD";
	q.url = url;
	strv_push(&q.headers, ACCEPT_MANIFESTS);
	if (registry_request(f->registry, e, &q, f->scope, last, &r, err) < 0)
		return -1;
	if (r.status == 429 || r.status >= 500)
		return http_status_error(&q, &r, err);
	if (head_is_enough(&r, d)) {
		if (d->descriptor.size > OCI_MANIFEST_MAX)
			return error_set(err, ERROR_RESOURCE_EXHAUSTED,
					 "the manifest is larger than %d bytes", OCI_MANIFEST_MAX);
		return 0;
	}
	return get_document(f, e, last, d, object, err);
}

int fetch_resolve(struct fetch *f, struct document *ret, struct error *err)
{
	const struct reference *ref = &f->registry->ref;
	autofree char *object = NULL;

	if (!ref->digest) {
		object = xasprintf("manifests/%s", ref->tag ? ref->tag : "latest");
		return each_endpoint(f, ENDPOINT_RESOLVE, resolve_tag, ret, object, err);
	}
	if (!digest_valid(ref->digest))
		return error_set(err, ERROR_INVALID_ARGUMENT, "unsupported digest '%s'",
				 ref->digest);
	str_replace(&ret->descriptor.digest, ref->digest);
	object = xasprintf("manifests/%s", ref->digest);
	return each_endpoint(f, ENDPOINT_PULL, get_document, ret, object, err);
}

int fetch_document(struct fetch *f, const char *path, struct document *ret, struct error *err)
{
	autofree char *object = xasprintf("%s/%s", path, ret->descriptor.digest);

	if (ret->descriptor.size > OCI_MANIFEST_MAX)
		return error_set(err, ERROR_RESOURCE_EXHAUSTED, "'%s' is larger than %d bytes",
				 ret->descriptor.digest, OCI_MANIFEST_MAX);
	return each_endpoint(f, ENDPOINT_PULL, get_document, ret, object, err);
}
