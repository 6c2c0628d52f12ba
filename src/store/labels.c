/* SPDX-License-Identifier: Apache-2.0 */

#include "base/json.h"
#include "base/mem.h"
#include "store/internal.h"

#include <string.h>

/* containerd's API allows 4096 bytes a label; Docker's has no limit, but people's labels have. */
enum { LABEL_MAX = 64 << 10, LABELS_MAX = 4096, LABELS_JSON_MAX = 16 << 20 };

char *labels_format(const struct kvs *labels)
{
	autojson struct json *j = NULL;

	if (!labels || labels->n == 0)
		return xstrdup("{}");
	j = json_new_kvs(labels);
	return json_format(j, /* pretty= */ false);
}

static int parse_one(const char *key, struct json *value, void *arg)
{
	const char *s = json_string(value);

	kvs_set(arg, key, s ? s : "");
	return 0;
}

int labels_parse(const char *text, struct kvs *ret, struct error *err)
{
	autojson struct json *j = NULL;

	kvs_done(ret);
	*ret = KVS_INIT;
	if (str_equal(text, "{}"))
		return 0;
	j = json_parse(text, strlen(text), LABELS_JSON_MAX, err);
	if (!j)
		return error_wrap(err, "labels");
	json_object_each(j, parse_one, ret);
	return 0;
}

int labels_check(const struct kvs *labels, struct error *err)
{
	if (!labels)
		return 0;
	if (labels->n > LABELS_MAX)
		return error_set(err, ERROR_INVALID_ARGUMENT, "%zu labels: more than %d", labels->n,
				 LABELS_MAX);
	for (size_t i = 0; i < labels->n; i++) {
		const struct kv *l = &labels->v[i];

		if (str_empty(l->key))
			return error_set(err, ERROR_INVALID_ARGUMENT, "label with an empty key");
		if (strlen(l->key) + strlen(l->value) > LABEL_MAX)
			return error_set(err, ERROR_INVALID_ARGUMENT,
					 "label '%.64s' is longer than %d bytes", l->key,
					 LABEL_MAX);
	}
	return labels_check_text(labels, err);
}

int labels_check_text(const struct kvs *labels, struct error *err)
{
	autofree char *text = labels_format(labels);
	autokvs struct kvs back = KVS_INIT;

	if (labels_parse(text, &back, err) == 0)
		return 0;
	if (err)
		err->code = ERROR_INVALID_ARGUMENT;
	return -1;
}

void labels_merge(struct kvs *labels, const struct kvs *changes)
{
	for (size_t i = 0; changes && i < changes->n; i++) {
		if (str_empty(changes->v[i].value))
			kvs_unset(labels, changes->v[i].key);
		else
			kvs_set(labels, changes->v[i].key, changes->v[i].value);
	}
}
