/* SPDX-License-Identifier: Apache-2.0 */
/* Every document as every kind; what was accepted holds only what its users may rely on. */
#include "base/mem.h"
#include "oci/digest.h"
#include "oci/image.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_descriptor(const struct descriptor *d)
{
	assert(digest_valid(d->digest) && d->size >= 0 && d->media_type);
}

static bool check_index(const char *text, size_t len)
{
	CLEANUP(index_done) struct index i = { 0 };
	autoplatform struct platform host = PLATFORM_INIT;

	if (index_parse(text, len, NULL, &i, NULL) < 0)
		return false;
	for (size_t k = 0; k < i.manifests.n; k++)
		check_descriptor(&i.manifests.v[k]);
	platform_host(&host);
	index_select(&i, &host);
	return true;
}

static bool check_manifest(const char *text, size_t len)
{
	CLEANUP(manifest_done) struct manifest m = { 0 }, again = { 0 };

	if (manifest_parse(text, len, NULL, &m, NULL) < 0)
		return false;
	check_descriptor(&m.config);
	for (size_t k = 0; k < m.layers.n; k++)
		check_descriptor(&m.layers.v[k]);
	autofree char *written = manifest_format(&m);

	if (strlen(written) <= OCI_MANIFEST_MAX)
		assert(manifest_parse(written, strlen(written), NULL, &again, NULL) == 0);
	return true;
}

static void check_config(const char *text, size_t len)
{
	CLEANUP(image_config_done) struct image_config c = { 0 };
	char chain[DIGEST_MAX];

	if (image_config_parse(text, len, &c, NULL) < 0)
		return;
	image_config_chain_id(&c, c.diff_ids.n, chain);
	assert(c.diff_ids.n == 0 || digest_valid(chain));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	bool is_index = check_index(text, size), is_manifest = check_manifest(text, size);

	/* CVE-2021-41190: no document is both. */
	assert(!is_index || !is_manifest);
	check_config(text, size);
	return 0;
}
