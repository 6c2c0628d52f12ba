/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Engine has and Kistl has not. Clients that ask get told so, in words that they show; a
 * 404 would read as if the container or image were not there. What would be an empty list is one.
 */

#include "api/docker/internal.h"
#include "base/mem.h"

HANDLER(unsupported)
{
	return error_set(err, ERROR_UNIMPLEMENTED, "%s %s is not supported by Kistl",
			 http_method(r), http_path(r));
}

HANDLER(swarm)
{
	return error_set(err, ERROR_UNAVAILABLE,
			 "This node is not a swarm manager. Use \"docker swarm init\" or \"docker "
			 "swarm join\" to connect this node to swarm and try again.");
}

HANDLER(plugins_list)
{
	http_reply_json(r, 200, json_new_array());
	return 0;
}

/* `docker system prune` asks for it; there is no build cache. */
HANDLER(build_prune)
{
	struct json *reply = json_new_object();

	json_set(reply, "CachesDeleted", NULL);
	json_set_int(reply, "SpaceReclaimed", 0);
	http_reply_json(r, 200, reply);
	return 0;
}
