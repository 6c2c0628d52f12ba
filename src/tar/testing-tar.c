/* SPDX-License-Identifier: Apache-2.0 */
#include "tar/testing-tar.h"

#include <stdio.h>
#include <string.h>

void tar_put(struct buf *b, const struct tar_spec *s)
{
	char h[512] = { 0 }, zeros[512] = { 0 };
	unsigned sum = 0;
	char type = s->type ? s->type : '0';
	unsigned mode = s->mode ? s->mode : type == '5' ? 0755 : 0644;

	memcpy(h, s->name, strnlen(s->name, 100));
	snprintf(h + 100, 8, "%07o", mode & 07777777);
	snprintf(h + 108, 8, "%07o", s->uid & 07777777);
	snprintf(h + 116, 8, "%07o", s->gid & 07777777);
	snprintf(h + 124, 12, "%011zo", s->size);
	if (s->size_field)
		memcpy(h + 124, s->size_field, 12);
	snprintf(h + 136, 12, "%011o", s->mtime);
	h[156] = type;
	if (s->link)
		memcpy(h + 157, s->link, strnlen(s->link, 100));
	memcpy(h + 257, s->magic ? s->magic : "ustar\00000", 8);
	snprintf(h + 329, 8, "%07o", s->major & 07777777);
	snprintf(h + 337, 8, "%07o", s->minor & 07777777);
	if (s->prefix)
		memcpy(h + 345, s->prefix, strnlen(s->prefix, 155));
	if (s->raw)
		memcpy(h + s->raw_at, s->raw, s->raw_len);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum + s->bad_checksum);
	buf_append(b, h, sizeof(h));
	if (s->data) {
		buf_append(b, s->data, s->size);
		buf_append(b, zeros, -s->size & 511);
	}
}

void tar_pax_record(struct buf *records, const char *key, const void *value, size_t len)
{
	size_t bare = strlen(key) + len + 3, n = bare + 1;

	for (size_t limit = 10; n >= limit; limit *= 10)
		n++;
	buf_printf(records, "%zu %s=", n, key);
	buf_append(records, value, len);
	buf_putc(records, '\n');
}

void tar_put_pax(struct buf *b, struct buf *records)
{
	TAR_PUT(b, .type = 'x', .name = "pax", .data = records->data, .size = records->len);
	buf_clear(records);
}

void tar_put_end(struct buf *b)
{
	char zeros[1024] = { 0 };

	buf_append(b, zeros, sizeof(zeros));
}

void tar_fix_checksums(void *data, size_t size)
{
	for (char *h = data; size >= 512; h += 512, size -= 512) {
		unsigned sum = 0;
		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		memset(h + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += (unsigned char)h[i];
		snprintf(h + 148, 8, "%06o", sum);
	}
}
