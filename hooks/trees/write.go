package trees

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/strictyaml"
)

// topic is a row of the table of publishes: what may stand behind the first level
// of a tree and a name.
type topic struct {
	tree, kind string
	// own says that the name must be the sender's, or one that a gateway may
	// write for.
	own, gateway bool
	// least and most are how many levels follow the kind.
	least, most int
	// rest is how they are written in a message.
	rest string
}

// publishes is the table of publishes.
var publishes = []topic{
	{tree: "users", kind: "chat", most: 1, rest: "[/{cid}]"},
	{tree: "users", kind: "act", most: 1, rest: "[/{cid}]"},
	{tree: "users", kind: "typing"},
	{tree: "users", kind: "location", own: true, gateway: true, most: 1, rest: "[/{tracker}]"},
	{tree: "users", kind: "state", own: true},
	{tree: "users", kind: "read", own: true, least: 2, most: 2, rest: "/u/{peer} or …/g/{group}"},
	{tree: "users", kind: "call", own: true, least: 1, most: 1, rest: "/{method}"},
	{tree: "groups", kind: "chat", most: 1, rest: "[/{cid}]"},
	{tree: "groups", kind: "act", most: 1, rest: "[/{cid}]"},
	{tree: "groups", kind: "typing"},
}

// served are the kinds in users/ that only the server writes.
var served = []string{"inbox", "live", "reply", "lease", "presence"}

// kinds are the words of the table in a tree.
func kinds(tree string) (names []string) {
	for _, t := range publishes {
		if t.tree == tree {
			names = append(names, t.kind)
		}
	}
	return names
}

// write looks a publish or will into a tree up.
func (h *Hook) write(p *Policy, r *hooks.Request) error {
	if r.Identity.User == "" {
		return refuse(mqtt.NotAuthorized, "%s/ is for clients with a user name", first(r.Topic))
	}
	level := strings.Split(r.Topic, "/")
	var err error
	switch {
	case r.Will:
		err = h.willRight(r, level)
	case level[0] == "owntracks":
		err = h.writeOwnTracks(p, r, level)
	default:
		err = h.writeTable(p, r, level)
	}
	if err == nil && !h.taken(r.Topic) {
		return refuse(mqtt.TopicNameInvalid, "%s is not taken yet; %s", r.Topic, h.instead(level[0], hooks.EncodeName(r.Identity.User)))
	}
	return err
}

// instead says what is taken in a tree today.
func (h *Hook) instead(tree, me string) string {
	var taken []string
	for _, t := range append(publishes, topic{tree: "owntracks", kind: "{device}[/event]", own: true}) {
		whose := "{peer}"
		if t.own {
			whose = me
		} else if tree == "groups" {
			whose = "{group}"
		}
		probe := strings.NewReplacer("{peer}", me, "{group}", "g", "{device}[/event]", "d").Replace(tree + "/" + whose + "/" + t.kind)
		if t.tree == tree && h.taken(probe+strings.Repeat("/x", t.least)) {
			taken = append(taken, tree+"/"+whose+"/"+t.kind+t.rest)
		}
	}
	if len(taken) == 0 {
		return "nothing is taken in " + tree + "/"
	}
	return "today " + strictyaml.OneOf(taken)
}

// taken reports whether one of the other hooks deals with the topic: else it would
// go to subscribers as it came.
func (h *Hook) taken(topic string) bool {
	return slices.ContainsFunc(*h.filters.Load(), func(f string) bool { return mqtt.Match(f, topic) })
}

func (h *Hook) writeTable(p *Policy, r *hooks.Request, level []string) error {
	me := hooks.EncodeName(r.Identity.User)
	if len(level) < 3 || level[1] == "" {
		return refuse(mqtt.TopicNameInvalid, "%s; say whose and what: %s/{name}/%s", r.Topic, level[0], strictyaml.OneOf(kinds(level[0])))
	}
	name, kind := level[1], level[2]
	if level[0] == "users" && slices.Contains(served, kind) {
		return refuse(mqtt.TopicNameInvalid, "%s is written by the server; write to %s on users/%s/chat", r.Topic, name, name)
	}
	i := slices.IndexFunc(publishes, func(t topic) bool { return t.tree == level[0] && t.kind == kind })
	if i < 0 {
		hint := strictyaml.DidYouMean(kind, kinds(level[0]))
		if hint == "" {
			hint = "; known are " + strictyaml.OneOf(kinds(level[0]))
		}
		return refuse(mqtt.TopicNameInvalid, "nothing is published to %s/{name}/%s%s", level[0], kind, hint)
	}
	t, rest := publishes[i], level[3:]
	whose := name
	if t.own {
		whose = me
	}
	switch {
	case len(rest) < t.least || len(rest) > t.most || slices.Contains(rest, "") || kind == "read" && rest[0] != "u" && rest[0] != "g":
		return refuse(mqtt.TopicNameInvalid, "publish to %s/%s/%s%s", t.tree, whose, kind, t.rest)
	case t.own && name != me && (!t.gateway || !p.Entries.Gateway(r.Identity, hooks.DecodeName(name))):
		return refuse(mqtt.TopicNameInvalid, "publish your own %s to %s/%s/%s%s", kind, t.tree, me, kind, t.rest)
	}
	return nil
}

// writeOwnTracks takes the reports of an OwnTracks app: owntracks/{me}/{device} and
// what is below it, but cmd, which are orders to a device.
func (h *Hook) writeOwnTracks(p *Policy, r *hooks.Request, level []string) error {
	me := hooks.EncodeName(r.Identity.User)
	switch {
	case len(level) == 4 && level[3] == "cmd":
		return refuse(mqtt.TopicNameInvalid, "orders to a device (cmd) are not passed on; publish to owntracks/%s/{device}[/event]", me)
	case len(level) < 3 || len(level) > 4 || level[1] == "" || level[2] == "":
		return refuse(mqtt.TopicNameInvalid, "publish to owntracks/%s/{device}[/event]", me)
	case level[1] != me && !p.Entries.Gateway(r.Identity, hooks.DecodeName(level[1])):
		return refuse(mqtt.TopicNameInvalid, "publish your own reports to owntracks/%s/%s", me, strings.Join(level[2:], "/"))
	}
	return nil
}

// willRight takes the two wills that there are in the trees.
func (h *Hook) willRight(r *hooks.Request, level []string) error {
	me := hooks.EncodeName(r.Identity.User)
	if len(level) == 3 && level[1] == me {
		switch {
		case level[0] == "users" && level[2] == "state" && h.taken(r.Topic):
			return nil
		case level[0] == "owntracks" && level[2] != "" && isLWT(r.Payload):
			return nil
		}
	}
	state := ""
	if own := "users/" + me + "/state"; h.taken(own) {
		state = "to " + own + ", or "
	}
	return refuse(mqtt.TopicNameInvalid, `in %s/ a will goes %sas {"_type":"lwt","tst":…} to owntracks/%s/{device}`, level[0], state, me)
}

// isLWT reports whether a payload is OwnTracks' last will, and no more than that.
func isLWT(payload []byte) bool {
	var m map[string]any
	if json.Unmarshal(payload, &m) != nil || m["_type"] != "lwt" {
		return false
	}
	for key := range m {
		if key != "_type" && key != "tst" && key != "custom" && key != "_id" && key != "topic" {
			return false
		}
	}
	return true
}
