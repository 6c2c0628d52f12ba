/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cdi.h"

#include "base/fs.h"
#include "base/mem.h"
#include "engine/yaml.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_names(void **state)
{
	(void)state;
	assert_true(cdi_name_valid("vendor.com/class=name"));
	assert_true(cdi_name_valid("nvidia.com/gpu=GPU-1:2.3"));
	assert_false(cdi_name_valid("vendor.com/class"));
	assert_false(cdi_name_valid("/class=name"));
	assert_false(cdi_name_valid("vendor.com/=name"));
	assert_false(cdi_name_valid("vendor.com/class="));
	assert_false(cdi_name_valid("vendor.com/cl/ass=x"));
	assert_false(cdi_name_valid("vendor.com/class=-x"));
}

static char *yaml(const char *text)
{
	autoerror struct error err = ERROR_INIT;
	autojson struct json *j = yaml_parse(text, strlen(text), &err);

	return j ? json_format(j, false) : xstrdup(error_msg(&err));
}

static void test_yaml(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "---\na: 1\nb: 'it''s' # no\nc: \"x#y\"\n",
		  "{\"a\":1,\"b\":\"it's\",\"c\":\"x#y\"}" },
		{ "l:\n- a: 1\n  b: 2\n- c\nm: true\n",
		  "{\"l\":[{\"a\":1,\"b\":2},\"c\"],\"m\":true}" },
		{ "l:\n    - - 1\n      - 2\n    -\n      x: y\n",
		  "{\"l\":[[1,2],{\"x\":\"y\"}]}" },
		{ "o: [ro, 'a b', 3]\ne: {}\nn: []\nmode: 0644\n",
		  "{\"o\":[\"ro\",\"a b\",3],\"e\":{},\"n\":[],\"mode\":420}" },
		{ "env:\n  - A=b:c\n  - \"X=y\\n\"\n", "{\"env\":[\"A=b:c\",\"X=y\\n\"]}" },
		{ "a: |\n  text\n", "line 1: what begins so is not supported" },
		{ "a: 1\na: 2\n", "line 2: a key that is there twice" },
		{ "a: 1\n   b: 2\n", "line 2: unexpected indentation" },
		{ "\ta: 1\n", "line 1: a tab" },
		{ "", "line 0: empty document" },
		{ "just text\n", "line 1: expected a key" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *got = yaml(cases[i].text);

		assert_string_equal(got, cases[i].want);
	}
}

static char *edit(const char *edits)
{
	autojson struct json *spec = json_new_object();
	autojson struct json *j = json_parse(edits, strlen(edits), 1 << 16, NULL);
	autoerror struct error err = ERROR_INIT;

	assert_non_null(j);
	return cdi_edit(j, spec, &err) < 0 ? xstrdup(error_msg(&err)) : json_format(spec, false);
}

static void test_edits(void **state)
{
	static const struct {
		const char *edits, *want;
	} cases[] = {
		{ "{\"env\":[\"A=1\",\"A=2\"],\"additionalGids\":[0,5]}",
		  "{\"process\":{\"env\":[\"A=2\"],\"user\":{\"additionalGids\":[5]}}}" },
		{ "{\"mounts\":[{\"hostPath\":\"/h\",\"containerPath\":\"/c\"}]}",
		  "{\"process\":{},\"mounts\":[{\"source\":\"/h\",\"destination\":\"/c\",\"type\":"
		  "\"bind\",\"options\":[\"ro\",\"nosuid\",\"nodev\",\"bind\"]}]}" },
		{ "{\"deviceNodes\":[{\"path\":\"/dev/x\",\"hostPath\":\"/dev/"
		  "null\",\"permissions\":"
		  "\"r\"}]}",
		  "{\"process\":{},\"linux\":{\"resources\":{\"devices\":[{\"allow\":true,\"type\":"
		  "\"c\",\"major\":1,\"minor\":3,\"access\":\"r\"}]},\"devices\":[{\"path\":"
		  "\"/dev/x\",\"type\":\"c\",\"major\":1,\"minor\":3,\"fileMode\":438}]}}" },
		{ "{\"hooks\":[{\"hookName\":\"createContainer\",\"path\":\"/"
		  "x\",\"args\":[\"x\"]}]}",
		  "{\"process\":{},\"hooks\":{\"createContainer\":[{\"path\":\"/"
		  "x\",\"args\":[\"x\"]}]"
		  "}}" },
		{ "{\"env\":[\"A\"]}", "env: 'A' is no assignment" },
		{ "{\"deviceNodes\":[{\"path\":\"x\"}]}",
		  "deviceNodes[0]: path 'x' is not absolute" },
		{ "{\"hooks\":[{\"hookName\":\"x\",\"path\":\"/x\"}]}",
		  "hooks[0]: unknown hookName 'x', or no absolute path" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *got = edit(cases[i].edits);

		assert_string_equal(got, cases[i].want);
	}
}

static void put(const char *dir, const char *name, const char *text)
{
	autofree char *path = path_join(dir, name, NULL);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
}

static void test_directories(void **state)
{
	char low[] = "/tmp/test-cdi-XXXXXX", high[] = "/tmp/test-cdi-XXXXXX";
	autostrv struct strv dirs = STRV_INIT, names = STRV_INIT;
	autojson struct json *spec = json_new_object();
	autoerror struct error err = ERROR_INIT;

	(void)state;
	strv_push(&dirs, mkdtemp(low));
	strv_push(&dirs, mkdtemp(high));
	put(low, "a.yaml",
	    "cdiVersion: 0.5.0\nkind: v.com/c\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n"
	    "- name: x\n  containerEdits:\n    env: [X=low]\n- name: y\n  containerEdits:\n"
	    "    env: [Y=1]\n");
	put(low, "broken.json", "{");
	put(high, "b.json",
	    "{\"cdiVersion\":\"0.5.0\",\"kind\":\"v.com/c\",\"devices\":[{\"name\":\"x\","
	    "\"containerEdits\":{\"env\":[\"X=high\"]}}]}");
	assert_true(cdi_has_kind(&dirs, "v.com/c"));
	assert_false(cdi_has_kind(&dirs, "v.com/d"));
	strv_push(&names, "v.com/c=x");
	strv_push(&names, "v.com/c=y");
	assert_int_equal(cdi_apply(&dirs, &names, spec, NULL), 0);
	autofree char *text = json_format(spec, false);
	assert_string_equal(text, "{\"process\":{\"env\":[\"X=high\",\"ALL=1\",\"Y=1\"]}}");
	strv_push(&names, "v.com/c=z");
	strv_push(&names, "bad");
	assert_int_equal(cdi_apply(&dirs, &names, spec, &err), -1);
	assert_string_equal(error_msg(&err),
			    "CDI device injection failed: unresolvable CDI devices "
			    "v.com/c=z, bad");
	/* Twice in one directory: none of them counts. */
	put(high, "c.json",
	    "{\"cdiVersion\":\"0.5.0\",\"kind\":\"v.com/c\",\"devices\":[{\"name\":\"x\"}]}");
	names.n = 1;
	assert_int_equal(cdi_apply(&dirs, &names, spec, NULL), -1);
	names.n = 4;
	assert_int_equal(fs_remove_tree(AT_FDCWD, low), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, high), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_edits),
		cmocka_unit_test(test_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
