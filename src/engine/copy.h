#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies what an image has at a path into a new volume. The source is an image's tree, so nothing
 * in it is followed: every step is by descriptor, without symlinks. Pool threads.
 */

#include "base/error.h"

/* The contents of source (a directory) into target (one too), which takes source's mode and owner.
 */
int copy_tree(int source, int target, struct error *err);
