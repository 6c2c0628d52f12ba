/* SPDX-License-Identifier: Apache-2.0 */
#include "api/cri/decode.h"
#include "api/cri/packed.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_text(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "a\xff"
		  "b",
		  "a\xef\xbf\xbd"
		  "b" },
		{ "\xc3", "\xef\xbf\xbd" },
		{ "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },		    /* overlong */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf5x", "\xef\xbf\xbdx" },
	};
	autoarena struct arena a = ARENA_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_string_equal(message_text(&a, cases[i].in), cases[i].out);
		assert_int_equal(message_text_valid(cases[i].in),
				 str_equal(cases[i].in, cases[i].out));
	}
	assert_string_equal(message_text(&a, NULL), "");
}

static void test_signals(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "SIGNAL_SIGTERM", "SIGTERM" },
		{ "SIGNAL_SIGRTMIN", "SIGRTMIN" },
		{ "SIGNAL_SIGRTMINPLUS15", "SIGRTMIN+15" },
		{ "SIGNAL_SIGRTMAXMINUS1", "SIGRTMAX-1" },
	};
	const ProtobufCEnumDescriptor *d = &runtime__v1__signal__descriptor;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		autofree char *name = cri_signal_name(cases[i].in);

		assert_string_equal(name, cases[i].out);
	}
	for (unsigned i = 1; i < d->n_values; i++) {
		autofree char *name = cri_signal_name(d->values[i].name);

		assert_true(signal_parse(name) > 0);
	}
}

static void test_annotations(void **state)
{
	autostrv struct strv patterns = STRV_INIT;

	strv_push(&patterns, "exact");
	strv_push(&patterns, "a.b/*");
	assert_true(cri_annotation_allowed(&patterns, "exact"));
	assert_false(cri_annotation_allowed(&patterns, "exactly"));
	assert_true(cri_annotation_allowed(&patterns, "a.b/c"));
	assert_false(cri_annotation_allowed(&patterns, "a.b"));
	assert_false(cri_annotation_allowed(&STRV_INIT, "x"));
}

/* What is nested is named by its way. */
static void test_check_texts(void **state)
{
	Runtime__V1__RunPodSandboxRequest m = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry label =
		RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
	Runtime__V1__PodSandboxConfig__LabelsEntry *labels[] = { &label };
	autoerror struct error err = ERROR_INIT;

	m.config = &config;
	config.labels = labels;
	config.n_labels = 1;
	assert_int_equal(cri_check_texts(&m.base, NULL), 0);
	label.value = (char *)(uintptr_t) "bad \xff";
	assert_int_equal(cri_check_texts(&m.base, &err), -1);
	assert_string_equal(error_msg(&err), "config: labels: value: is not valid UTF-8");
}

/* --- packed lists --- */

struct item {
	char *id, *label;
};

static unsigned held, encoded;

static ProtobufCMessage *encode(struct arena *a, const void *arg)
{
	const struct item *item = arg;
	Runtime__V1__Container *m = CRI_NEW(a, container);

	encoded++;
	m->id = message_text(a, item->id);
	m->image_ref = message_text(a, item->label);
	m->created_at = 7;
	return &m->base;
}

static void *hold(void *arg UNUSED, const void *item)
{
	held++;
	return (void *)(uintptr_t)item;
}

static void release(void *item UNUSED)
{
	held--;
}

static void check(struct packed_cache *c, const struct item *item,
		  Runtime__V1__ContainerState container_state)
{
	autoarena struct arena a = ARENA_INIT;
	Runtime__V1__Container *m = (Runtime__V1__Container *)packed_get(
		c, &a, &runtime__v1__container__descriptor, item->id, item, item);
	uint8_t packed[512];

	m->state = container_state;
	size_t n = protobuf_c_message_pack(&m->base, packed);
	assert_int_equal(n, protobuf_c_message_get_packed_size(&m->base));
	Runtime__V1__Container *back = runtime__v1__container__unpack(NULL, n, packed);
	assert_non_null(back);
	assert_string_equal(back->id, item->id);
	assert_string_equal(back->image_ref, item->label);
	assert_int_equal(back->created_at, 7);
	assert_int_equal(back->state, container_state);
	assert_int_equal(back->base.n_unknown_fields, 0);
	runtime__v1__container__free_unpacked(back, NULL);
}

static void test_packed(void **state)
{
	static const struct packed_ops ops = { .encode = encode, .hold = hold, .release = release };
	struct item one = { (char *)(uintptr_t) "1", (char *)(uintptr_t) "x" };
	struct item other = { (char *)(uintptr_t) "1", (char *)(uintptr_t) "y" };
	struct item two = { (char *)(uintptr_t) "2", (char *)(uintptr_t) "" };
	struct packed_cache *c = packed_cache_new(&ops, NULL);

	for (int i = 0; i < 4; i++)
		check(c, &one, (Runtime__V1__ContainerState)i);
	assert_int_equal(encoded, 1);
	check(c, &two, RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED);
	assert_int_equal(held, 2);
	/* The same id, another object. */
	check(c, &other, RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING);
	check(c, &other, RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED);
	assert_int_equal(encoded, 3);
	assert_int_equal(held, 2);
	packed_sweep(c, 2);
	check(c, &two, RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED);
	packed_sweep(c, 1);
	assert_int_equal(held, 1);
	check(c, &two, RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED);
	assert_int_equal(encoded, 3);
	packed_cache_free(c);
	assert_int_equal(held, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	    cmocka_unit_test(test_signals),
		cmocka_unit_test(test_annotations), cmocka_unit_test(test_check_texts),
		cmocka_unit_test(test_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
