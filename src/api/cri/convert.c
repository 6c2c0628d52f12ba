/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of messages that rpc/message.h has not: info maps, wrapped numbers. */
#include "api/cri/internal.h"

#include "base/mem.h"

void cri_info(struct arena *a, const ProtobufCMessageDescriptor *entry, void *entries, size_t *n,
	      const char *key, struct json *json)
{
	void ***array = entries;
	void **out = message_array(a, *n + 1);
	autofree char *text = json_format(json, /* pretty= */ false);

	json_unref(json);
	for (size_t i = 0; i < *n; i++)
		out[i] = (*array)[i];
	out[(*n)++] = message_entry(a, entry, key, text);
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
