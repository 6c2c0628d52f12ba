#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Platforms: normalisation and matching of containerd/platforms (images.md 1.7). Any thread. */

#include "base/error.h"

struct platform {
	char *os;
	char *architecture;
	char *variant; /* NULL for none */
	char *os_version;
};

#define PLATFORM_INIT ((struct platform){ 0 })

void platform_done(struct platform *p);
void platform_copy(struct platform *dst, const struct platform *src);
/* x86_64 -> amd64, arm64/v8 -> arm64 ...: what documents and people write to what is compared. */
void platform_normalize(struct platform *p);
/* "linux/amd64", "arm64", "linux/arm/v7". Normalised. */
int platform_parse(const char *s, struct platform *ret, struct error *err);
void platform_host(struct platform *ret);
char *platform_string(const struct platform *p);
/* 0: no match; else the higher the better for someone who wants `want`. Both normalised. */
unsigned platform_rank(const struct platform *want, const struct platform *have);

#define autoplatform CLEANUP(platform_done)
