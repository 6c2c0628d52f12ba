/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "engine/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

static struct container_config sample(void)
{
	struct container_config c = { 0 };

	c.image = xstrdup("busybox");
	strv_push(&c.args, "sh");
	strv_push(&c.env, "A=1");
	kvs_set(&c.labels, "k", "v");
	c.stop_timeout = -1;
	c.resources.memory_swap = -1;
	c.mounts.v = xnew(struct mount_spec);
	c.mounts.n = 1;
	c.mounts.v[0] = (struct mount_spec){ .type = xstrdup("bind"),
					     .source = xstrdup("/a"),
					     .target = xstrdup("/data"),
					     .read_only = true };
	return c;
}

static void test_round_trip(void **state)
{
	struct container_config c = sample(), copy;
	autojson struct json *a = container_config_to_json(&c), *b = NULL;
	autofree char *ta = json_format(a, false), *tb = NULL;

	container_config_copy(&copy, &c);
	b = container_config_to_json(&copy);
	tb = json_format(b, false);
	assert_string_equal(ta, tb);
	assert_int_equal(copy.stop_timeout, -1);
	assert_int_equal(copy.resources.memory_swap, -1);
	assert_true(copy.mounts.v[0].read_only);
	container_config_done(&c);
	container_config_done(&copy);
}

static void apply(struct container_config *c, const char *entrypoint, bool set, const char *cmd,
		  int expected)
{
	struct image_config image = { 0 };
	autostrv struct strv e = STRV_INIT, k = STRV_INIT;

	strv_push(&image.config.entrypoint, "/entry");
	strv_push(&image.config.cmd, "default");
	strv_push(&image.config.env, "A=image");
	strv_push(&image.config.env, "B=image");
	strv_push(&image.config.volumes, "/data");
	strv_push(&image.config.volumes, "/vol");
	image.config.working_dir = xstrdup("/work");
	if (entrypoint)
		strv_push(&e, entrypoint);
	if (cmd)
		strv_push(&k, cmd);
	assert_int_equal(container_config_apply_image(c, &image, &e, set, &k, NULL), expected);
	image_config_done(&image);
}

static void expect_args(const struct container_config *c, const char *joined)
{
	autofree char *s = strv_join(&c->args, " ");

	assert_string_equal(s, joined);
}

static void test_apply_image(void **state)
{
	struct container_config c = sample();

	apply(&c, NULL, false, NULL, 0);
	expect_args(&c, "/entry default");
	assert_string_equal(strv_env_get(&c.env, "A"), "1");
	assert_string_equal(strv_env_get(&c.env, "B"), "image");
	assert_string_equal(c.cwd, "/work");
	/* /data is the user's, /vol becomes an anonymous volume. */
	assert_int_equal(c.mounts.n, 2);
	assert_string_equal(c.mounts.v[1].target, "/vol");
	assert_true(c.mounts.v[1].anonymous);

	apply(&c, NULL, false, "mine", 0);
	expect_args(&c, "/entry mine");
	apply(&c, "/own", true, NULL, 0);
	expect_args(&c, "/own");
	apply(&c, "/own", true, "arg", 0);
	expect_args(&c, "/own arg");
	apply(&c, NULL, true, NULL, -1); /* --entrypoint "" and no command */
	container_config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_apply_image),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
