/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "oci/digest.h"
#include "oci/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define D1 "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define D2 "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define CONFIG "{\"mediaType\":\"" MEDIA_OCI_CONFIG "\",\"digest\":\"" D1 "\",\"size\":2}"
#define LAYER "{\"mediaType\":\"" MEDIA_OCI_LAYER_GZIP "\",\"digest\":\"" D2 "\",\"size\":3}"
#define MANIFEST(rest)                                                                     \
	"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"config\":" CONFIG \
	",\"layers\":[" LAYER "]" rest "}"

static int parse_manifest(const char *text, const char *type, struct manifest *m, struct error *err)
{
	return manifest_parse(text, strlen(text), type, m, err);
}

static void test_manifest(void **state)
{
	CLEANUP(manifest_done) struct manifest m = { 0 };
	const char *text = MANIFEST(",\"annotations\":{\"a\":\"b\"}");

	assert_int_equal(parse_manifest(text, MEDIA_OCI_MANIFEST "; charset=utf-8", &m, NULL), 0);
	assert_int_equal(m.layers.n, 1);
	assert_string_equal(m.layers.v[0].digest, D2);
	assert_string_equal(m.config.digest, D1);
	autofree char *again = manifest_format(&m);
	assert_string_equal(again, text);
	CLEANUP(descriptor_done) struct descriptor d = { 0 }, parsed = { 0 };
	descriptor_copy(&d, &m.layers.v[0]);
	autojson struct json *j = descriptor_to_json(&d);
	assert_int_equal(descriptor_from_json(j, &parsed, NULL), 0);
	assert_int_equal(parsed.size, 3);
	assert_null(parsed.platform);
}

static void test_refused_manifests(void **state)
{
	static const struct {
		const char *text, *type, *message;
	} cases[] = {
		{ MANIFEST(",\"manifests\":[]"), NULL, "ambiguous" },
		{ MANIFEST(""), MEDIA_OCI_INDEX, "unexpected media type" },
		{ MANIFEST(""), MEDIA_DOCKER_MANIFEST, "in a document that came as" },
		{ MANIFEST(",\"fsLayers\":[]"), NULL, "schema 1 is not supported" },
		{ "{\"schemaVersion\":1}", NULL, "schema 1 is not supported" },
		{ MANIFEST(""), "application/vnd.docker.distribution.manifest.v1+prettyjws",
		  "schema 1 is not supported" },
		{ "{\"schemaVersion\":3,\"config\":" CONFIG "}", NULL, "schemaVersion must be 2" },
		{ "{\"schemaVersion\":2}", NULL, "config: required member is missing" },
		{ "{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:..\",\"size\":1}}", NULL,
		  "config: invalid digest" },
		{ "{\"config\":{\"mediaType\":\"x\",\"digest\":\"" D1 "\",\"size\":-1}}", NULL,
		  "invalid size -1" },
		{ "{\"config\":" CONFIG ",\"layers\":[{\"mediaType\":\"x\",\"digest\":\"" D1
		  "\",\"size\":9223372036854775807}]}",
		  NULL, "layers[0]: invalid size" },
		{ "[]", NULL, "not a JSON object" },
		{ "{\"mediaType\":\"" MEDIA_OCI_INDEX "\"}", NULL, "unexpected media type" },
		{ "{\"config\":" CONFIG ",\"config\":" CONFIG "}", NULL, "duplicate key" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(manifest_done) struct manifest m = { 0 };
		autoerror struct error err = ERROR_INIT;

		assert_int_equal(parse_manifest(cases[i].text, cases[i].type, &m, &err), -1);
		if (!strstr(error_msg(&err), cases[i].message))
			fail_msg("%s: %s", cases[i].message, error_msg(&err));
		assert_int_equal(parse_manifest(cases[i].text, cases[i].type, &m, NULL), -1);
	}
}

static void test_too_many_layers(void **state)
{
	autobuf struct buf b = BUF_INIT(OCI_MANIFEST_MAX);
	CLEANUP(manifest_done) struct manifest m = { 0 };
	autoerror struct error err = ERROR_INIT;

	buf_puts(&b, "{\"config\":" CONFIG ",\"layers\":[" LAYER);
	for (int i = 0; i < 1000; i++)
		buf_puts(&b, "," LAYER);
	buf_puts(&b, "]}");
	assert_int_equal(manifest_parse(b.data, b.len, NULL, &m, &err), -1);
	assert_non_null(strstr(error_msg(&err), "layers: more than 1000"));
}

static const struct descriptor *select_for(const struct index *i, const char *platform)
{
	autoplatform struct platform want = PLATFORM_INIT;

	assert_int_equal(platform_parse(platform, &want, NULL), 0);
	return index_select(i, &want);
}

static void test_index(void **state)
{
	static const char attestation[] =
		",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}";
	static const struct {
		const char *digest, *os, *architecture, *rest;
	} entries[] = {
		{ D1, "unknown", "unknown", "" }, { D1, NULL, NULL, "" },
		{ D1, "linux", "386", "" },	  { D2, "linux", "x86_64", "" },
		{ D1, "linux", "amd64", "" },	  { D2, "linux", "arm64", attestation },
	};
	autobuf struct buf text = BUF_INIT(OCI_MANIFEST_MAX);
	CLEANUP(index_done) struct index i = { 0 };

	buf_puts(&text, "{\"schemaVersion\":2,\"manifests\":[");
	for (size_t k = 0; k < ARRAY_SIZE(entries); k++) {
		buf_printf(&text, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":1%s",
			   k ? "," : "", MEDIA_OCI_MANIFEST, entries[k].digest, entries[k].rest);
		if (entries[k].os)
			buf_printf(&text, ",\"platform\":{\"os\":\"%s\",\"architecture\":\"%s\"}",
				   entries[k].os, entries[k].architecture);
		buf_putc(&text, '}');
	}
	buf_puts(&text, "]}");
	assert_int_equal(index_parse(text.data, text.len, MEDIA_OCI_INDEX, &i, NULL), 0);
	assert_int_equal(i.manifests.n, 6);
	assert_ptr_equal(select_for(&i, "linux/amd64"), &i.manifests.v[3]);
	assert_ptr_equal(select_for(&i, "linux/386"), &i.manifests.v[2]);
	assert_ptr_equal(select_for(&i, "linux/arm64"), &i.manifests.v[1]);
	i.manifests.n = 1;
	assert_null(select_for(&i, "linux/amd64"));
	i.manifests.n = 6;
	static const char ambiguous[] = "{\"manifests\":[],\"layers\":[]}";
	assert_int_equal(index_parse(ambiguous, strlen(ambiguous), NULL, &i, NULL), -1);
}

static void test_config(void **state)
{
	static const char text[] =
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2026-01-01T00:00:00Z\","
		"\"config\":{\"User\":\"1000\",\"Env\":[\"A=b\"],\"Cmd\":null,\"Entrypoint\":[\"/"
		"x\"],"
		"\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}},\"Volumes\":{\"/data\":{}},"
		"\"Labels\":{\"k\":\"v\"},\"StopSignal\":\"SIGINT\",\"WorkingDir\":\"/w\","
		"\"Healthcheck\":{\"Test\":[\"CMD\",\"t\"],\"Interval\":30000000000,\"Retries\":3}}"
		","
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\",\"" D2 "\"]},"
		"\"history\":[{\"created_by\":\"RUN x\",\"empty_layer\":true},{}]}";
	CLEANUP(image_config_done) struct image_config c = { 0 };
	char chain[DIGEST_MAX], expected[DIGEST_MAX];
	autoerror struct error err = ERROR_INIT;

	if (image_config_parse(text, strlen(text), &c, &err) < 0)
		fail_msg("%s", error_msg(&err));
	assert_string_equal(c.platform.architecture, "amd64");
	assert_string_equal(c.config.exposed_ports.v[1], "53/udp");
	assert_string_equal(c.config.volumes.v[0], "/data");
	assert_int_equal(c.config.cmd.n, 0);
	assert_int_equal(c.config.healthcheck->interval, 30000000000);
	assert_int_equal(c.history.n, 2);
	assert_true(c.history.v[0].empty_layer);
	image_config_chain_id(&c, 1, chain);
	assert_string_equal(chain, D1);
	digest_chain(D1, D2, expected);
	image_config_chain_id(&c, 2, chain);
	assert_string_equal(chain, expected);
	image_config_chain_id(&c, 0, chain);
	assert_string_equal(chain, "");
}

static void test_refused_configs(void **state)
{
	static const char *const cases[][2] = {
		{ "{\"rootfs\":{\"diff_ids\":[]}}", "rootfs.type" },
		{ "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:x\"]}}", "diff_ids[0]" },
		{ "{\"config\":{\"Volumes\":[]}}", "config.Volumes: expected object" },
		{ "{\"config\":{\"Env\":[1]}}", "config.Env[0]: expected string, got integer" },
		{ "{\"layers\":[]}", "ambiguous" },
		{ "", "invalid JSON" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(image_config_done) struct image_config c = { 0 };
		autoerror struct error err = ERROR_INIT;

		assert_int_equal(image_config_parse(cases[i][0], strlen(cases[i][0]), &c, &err),
				 -1);
		if (!strstr(error_msg(&err), cases[i][1]))
			fail_msg("%s: %s", cases[i][1], error_msg(&err));
	}
}

static void test_media_kinds(void **state)
{
	assert_int_equal(media_kind(MEDIA_DOCKER_LIST), MEDIA_KIND_INDEX);
	assert_int_equal(media_kind(MEDIA_OCI_LAYER_ZSTD), MEDIA_KIND_LAYER);
	assert_int_equal(media_kind(MEDIA_OCI_LAYER_GZIP "+encrypted"), MEDIA_KIND_LAYER);
	assert_int_equal(media_kind(MEDIA_DOCKER_LAYER_GZIP), MEDIA_KIND_LAYER);
	assert_int_equal(media_kind(MEDIA_OCI_MANIFEST "x"), MEDIA_UNKNOWN);
	assert_int_equal(media_kind(NULL), MEDIA_UNKNOWN);
	assert_true(media_is_foreign_layer(
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
	assert_false(media_is_foreign_layer(MEDIA_DOCKER_LAYER));
	assert_false(media_is_foreign_layer(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest),	cmocka_unit_test(test_refused_manifests),
		cmocka_unit_test(test_too_many_layers), cmocka_unit_test(test_index),
		cmocka_unit_test(test_config),		cmocka_unit_test(test_refused_configs),
		cmocka_unit_test(test_media_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
