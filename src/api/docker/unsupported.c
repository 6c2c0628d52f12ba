/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Engine has and Kistl has not. Where the Engine itself may have it turned off (swarm,
 * plugins, experiments), the answer is the Engine's for that. Clients that ask for the rest get
 * told so, in words that they show; a 404 would read as if the container or image were not there.
 * What would be an empty list is one.
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

HANDLER(no_swarm)
{
	return error_set(err, ERROR_UNAVAILABLE, "This node is not part of a swarm");
}

HANDLER(not_locked)
{
	return error_set(err, ERROR_FAILED_PRECONDITION, "swarm is not locked");
}

HANDLER(volume_update)
{
	return error_set(err, ERROR_UNAVAILABLE,
			 "volume update only valid for cluster volumes, but swarm is unavailable");
}

HANDLER(experimental)
{
	return error_set(err, ERROR_UNIMPLEMENTED,
			 "This experimental feature is disabled by default. Start the Docker "
			 "daemon in experimental mode in order to enable it.");
}

HANDLER(plugins_list)
{
	static const char *const known[] = { "enabled", "capability", NULL };
	CLEANUP(filters_done) struct filters f = { 0 };

	if (filters_parse(r, known, &f, err) < 0)
		return -1;
	http_reply_json(r, 200, json_new_array());
	return 0;
}

HANDLER(plugin)
{
	return error_set(err, ERROR_NOT_FOUND, "plugin \"%s\" not found", http_param(r, "name"));
}

/* `docker system prune` asks for it; there is no build cache. */
HANDLER(build_prune)
{
	static const char *const known[] = { "until",	   "id",     "parent",	"type",
					     "inuse",	   "shared", "private", "description",
					     "unused-for", "label",  NULL };
	CLEANUP(filters_done) struct filters f = { 0 };

	if (filters_parse(r, known, &f, err) < 0)
		return -1;
	struct json *reply = json_new_object();

	json_set(reply, "CachesDeleted", NULL);
	json_set_int(reply, "SpaceReclaimed", 0);
	http_reply_json(r, 200, reply);
	return 0;
}

/* Attestations are made by builders that Kistl has not. */
HANDLER(image_attestations)
{
	CLEANUP(image_details_done) struct image_details d = { 0 };

	if (image_lookup(engine_images(api_engine(r)), api_ns(r), http_param(r, "name"), &d, err) <
	    0)
		return -1;
	http_reply_json(r, 200, json_new_array());
	return 0;
}
