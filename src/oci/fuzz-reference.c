/* SPDX-License-Identifier: Apache-2.0 */
/* A reference that was accepted reads the same in its normal and its familiar form. */
#include "base/mem.h"
#include "oci/digest.h"
#include "oci/platform.h"
#include "oci/reference.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reference(const char *s)
{
	autoerror struct error err = ERROR_INIT;
	autoreference struct reference r = REFERENCE_INIT, normal = REFERENCE_INIT,
				       familiar = REFERENCE_INIT;

	if (reference_parse(s, &r, &err) < 0) {
		assert(err.code == ERROR_INVALID_ARGUMENT && !r.domain);
		return;
	}
	autofree char *a = reference_string(&r), *b = reference_familiar(&r);

	assert(reference_parse(a, &normal, NULL) == 0);
	assert(reference_parse(b, &familiar, NULL) == 0);
	autofree char *c = reference_string(&normal), *d = reference_string(&familiar);

	assert(strcmp(a, c) == 0 && strcmp(a, d) == 0);
	assert(!strstr(r.path, "..") && r.path[0] != '/');
}

static void check_digest(const char *s)
{
	if (!digest_valid(s))
		return;
	autofree char *path = digest_blob_path(s);

	assert(digest_grammar_valid(s) && !strstr(path, ".."));
}

static void check_platform(const char *s)
{
	autoplatform struct platform p = PLATFORM_INIT, again = PLATFORM_INIT;

	if (platform_parse(s, &p, NULL) < 0)
		return;
	autofree char *text = platform_string(&p);

	assert(platform_rank(&p, &p) > 0);
	assert(platform_parse(text, &again, NULL) == 0);
	assert(platform_rank(&p, &again) == platform_rank(&p, &p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *s = xstrndup((const char *)data, size);

	check_reference(s);
	check_digest(s);
	digest_grammar_valid(s);
	check_platform(s);
	return 0;
}
