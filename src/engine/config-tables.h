#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* JSON tables (config.c) of what containers' and sandboxes' configurations both have. */

#include "base/jsontab.h"

extern const struct json_field config_port_fields[];	   /* struct port_spec */
extern const struct json_field config_id_mapping_fields[]; /* struct id_mapping */
extern const struct json_field config_selinux_fields[];	   /* struct selinux_label */
