#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports as `ps` shows them. */

#include "base/json.h"

/* From the API's list [{IP, PrivatePort, PublicPort, Type}]:
 * "0.0.0.0:8000-8001->80-81/tcp, 443/tcp". malloc'ed. */
char *ports_display(const struct json *ports);
