/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

const struct command *const cli_commands[] = {
	&command_attach,	&command_container_inspect,
	&command_create,	&command_exec,
	&command_image_inspect, &command_images,
	&command_inspect,	&command_kill,
	&command_logs,		&command_network_inspect,
	&command_pause,		&command_ps,
	&command_pull,		&command_rename,
	&command_restart,	&command_rm,
	&command_run,		&command_start,
	&command_stop,		&command_unpause,
	&command_version,	&command_volume_inspect,
	&command_wait,		NULL,
};
