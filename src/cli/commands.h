#pragma once
/* SPDX-License-Identifier: Apache-2.0 */
/* Every command, and texts that several of their options share. */

#include "cli/cli.h"

#define OPTION_HELP_FORMAT                                                             \
	"Format output using a custom template:\n"                                     \
	"'table': Print output in table format with column headers (default)\n"        \
	"'table TEMPLATE': Print output in table format using the given Go template\n" \
	"'json': Print in JSON format\n"                                               \
	"'TEMPLATE': Print output using the given Go template."
#define OPTION_HELP_FORMAT_ONE                     \
	"Format output using a custom template:\n" \
	"'json': Print in JSON format\n"           \
	"'TEMPLATE': Print output using the given Go template."

extern const struct command command_attach, command_builder_prune, command_commit, command_complete,
	command_compose, command_container_inspect, command_cp, command_diff, command_export,
	command_import, command_search, command_container_prune, command_create, command_df,
	command_events, command_exec, command_history, command_image_inspect, command_image_prune,
	command_images, command_info, command_inspect, command_kill, command_load, command_login,
	command_logout, command_logs, command_network_connect, command_network_create,
	command_network_disconnect, command_network_inspect, command_network_ls,
	command_network_prune, command_network_rm, command_pause, command_port, command_ps,
	command_pull, command_push, command_rename, command_restart, command_rm, command_rmi,
	command_run, command_save, command_start, command_stats, command_stop, command_system_prune,
	command_tag, command_top, command_unpause, command_update, command_version,
	command_volume_create, command_volume_inspect, command_volume_ls, command_volume_prune,
	command_volume_rm, command_wait;
