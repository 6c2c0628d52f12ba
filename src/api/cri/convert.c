/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of messages: texts, maps, wrapped numbers. */
#include "api/cri/internal.h"

#include "base/mem.h"

#include <string.h>

/* What protoc-gen-c makes of every map<string, string>. */
struct map_entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};

_Static_assert(sizeof(struct map_entry) == sizeof(Runtime__V1__PodSandbox__LabelsEntry) &&
		       offsetof(struct map_entry, value) ==
			       offsetof(Runtime__V1__PodSandbox__LabelsEntry, value),
	       "maps have entries of this shape");

/* Length of the sequence at s, 0 when it is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_sequence(const unsigned char *s)
{
	static const unsigned char first[] = { 0xc2, 0xe0, 0xf0 }, last[] = { 0xdf, 0xef, 0xf4 };
	unsigned char low = 0x80, high = 0xbf;

	if (s[0] < 0x80)
		return 1;
	for (size_t more = 1; more <= 3; more++) {
		if (s[0] < first[more - 1] || s[0] > last[more - 1])
			continue;
		low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : low;
		high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : high;
		for (size_t i = 1; i <= more; i++, low = 0x80, high = 0xbf) {
			if (s[i] < low || s[i] > high)
				return 0;
		}
		return more + 1;
	}
	return 0;
}

bool cri_text_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t step = 1; *p && step > 0; p += step)
		step = utf8_sequence(p);
	return *p == '\0';
}

char *cri_text(struct arena *a, const char *s)
{
	const unsigned char *p = (const unsigned char *)(s ? s : "");
	size_t n = 0, bad = 0;

	while (p[n]) {
		size_t step = utf8_sequence(p + n);

		bad += step == 0;
		n += step ? step : 1;
	}
	char *out = arena_alloc(a, n + 2 * bad + 1), *o = out;
	while (*p) {
		size_t step = utf8_sequence(p);

		memcpy(o, step ? (const char *)p : "\xef\xbf\xbd", step ? step : 3);
		o += step ? step : 3;
		p += step ? step : 1;
	}
	return out;
}

char **cri_texts(struct arena *a, const struct strv *s)
{
	char **out = cri_array(a, s->n);

	for (size_t i = 0; i < s->n; i++)
		out[i] = cri_text(a, s->v[i]);
	return out;
}

void *cri_array(struct arena *a, size_t n)
{
	return arena_alloc(a, (n + 1) * sizeof(void *));
}

void *cri_message(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);

	d->message_init(m);
	return m;
}

static struct map_entry *new_entry(struct arena *a, const ProtobufCMessageDescriptor *d,
				   const char *key, const char *value)
{
	struct map_entry *e = cri_message(a, d);

	e->key = cri_text(a, key);
	e->value = cri_text(a, value);
	return e;
}

void *cri_map(struct arena *a, const ProtobufCMessageDescriptor *entry, const struct kvs *k,
	      size_t *ret_n)
{
	struct map_entry **out = cri_array(a, k->n);

	for (size_t i = 0; i < k->n; i++)
		out[i] = new_entry(a, entry, k->v[i].key, k->v[i].value);
	*ret_n = k->n;
	return out;
}

void cri_kvs(struct kvs *ret, void *entries, size_t n)
{
	struct map_entry **e = entries;

	for (size_t i = 0; i < n; i++)
		kvs_set(ret, e[i]->key, e[i]->value);
}

void cri_info(struct arena *a, const ProtobufCMessageDescriptor *entry, void *entries, size_t *n,
	      const char *key, struct json *json)
{
	struct map_entry ***array = entries;
	struct map_entry **out = cri_array(a, *n + 1);
	autofree char *text = json_format(json, /* pretty= */ false);

	json_unref(json);
	for (size_t i = 0; i < *n; i++)
		out[i] = (*array)[i];
	out[(*n)++] = new_entry(a, entry, key, text);
	*array = out;
}

Runtime__V1__Int64Value *cri_int64(struct arena *a, int64_t v)
{
	Runtime__V1__Int64Value *m = CRI_NEW(a, int64_value);

	m->value = v;
	return m;
}

Runtime__V1__UInt64Value *cri_uint64(struct arena *a, uint64_t v)
{
	Runtime__V1__UInt64Value *m = CRI_NEW(a, uint64_value);

	m->value = v;
	return m;
}
