package trees

import (
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// read looks a subscription into a tree up. Whether a position that it matches is
// sent is asked at each delivery.
func (h *Hook) read(r *hooks.Request) error {
	level := strings.Split(r.Topic, "/")
	me := hooks.EncodeName(r.Identity.User)
	switch {
	case r.Identity.User == "":
		return refuse(mqtt.NotAuthorized, "%s/ is for clients with a user name", level[0])
	case r.Shared:
		return refuse(mqtt.NotAuthorized, "$share in %s/ needs a grant of the access file; subscribe to users/%s/inbox", level[0], me)
	case level[0] == "owntracks":
		return nil
	case level[0] == "users" && (ofMine(level, me) || ofAnybody(level)):
		return nil
	}
	return nearest(level, me)
}

// ofMine reports whether a filter is for what is meant for me alone, or all of it.
func ofMine(level []string, me string) bool {
	if len(level) < 3 || level[1] != me {
		return false
	}
	switch level[2] {
	case "inbox", "live", "#":
		return len(level) == 3
	case "reply":
		return true
	case "lease":
		return len(level) == 4 && level[3] != ""
	}
	return false
}

// ofAnybody reports whether a filter is for what people share: location and presence
// of one or, with +, of all.
func ofAnybody(level []string) bool {
	if len(level) < 3 || level[1] == "" || level[1] == "#" {
		return false
	}
	switch level[2] {
	case "location":
		return len(level) == 3 || len(level) == 4 && level[3] != ""
	case "presence":
		return len(level) == 3
	}
	return false
}

// nearest refuses a filter by naming the right one.
func nearest(level []string, me string) error {
	kind := "#"
	if len(level) > 2 {
		kind = level[2]
	}
	switch {
	case level[0] == "groups":
		return refuse(mqtt.NotAuthorized, "what groups are told arrives in users/%s/inbox; subscribe to it", me)
	case kind == "lease":
		return refuse(mqtt.NotAuthorized, "subscribe to users/%s/lease/{tracker}", me)
	case len(level) > 1 && level[1] != me && slices.Contains([]string{"inbox", "live", "reply"}, kind):
		return refuse(mqtt.NotAuthorized, "subscribe to your own: users/%s/%s", me, kind)
	case slices.Contains(kinds("users"), kind):
		return refuse(mqtt.NotAuthorized, "nobody is sent %s as it was published; what is meant for you arrives in users/%s/inbox", kind, me)
	}
	return refuse(mqtt.NotAuthorized, "subscribe to users/%s/inbox, users/%s/#, users/{user}/location or users/{user}/presence", me, me)
}
