#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the volume driver "local": type, device, o as mount(8) has them. Such a volume is
 * mounted on its directory when the first container that has it starts, and unmounted when the last
 * one has ended. Pool threads.
 */

#include "base/map.h"
#include "engine/internal.h"

/* Docker's words for what is wrong. */
int volume_options_check(const struct kvs *options, struct error *err);
/* Is something to be mounted for it? */
bool volume_needs_mount(const struct kvs *options);
/* Mounts on path unless it is mounted; by whom is the caller's matter. */
int volume_mount(const char *name, const char *path, const struct kvs *options, struct error *err);
void volume_unmount(const char *path);
