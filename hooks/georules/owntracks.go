package georules

import (
	"fmt"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// untracked deals with a message of OwnTracks that says not where the tracker is: a last
// will is told to listeners, everything else is refused by its name.
func (d *prepared) untracked(p *hooks.Publish, level []string) error {
	kind, tst := geo.Untracked(p.Message.Payload)
	if kind == "lwt" && level[0] == "owntracks" && len(level) == 3 {
		if d.lwt = tst; tst == 0 {
			d.lwt = p.At / 1000
		}
		return nil
	}
	text := "what has a position is taken here: a location or a transition"
	if level[0] == "owntracks" {
		text += "; and an lwt, on owntracks/{me}/{device}"
	}
	return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: fmt.Sprintf("_type %.40q is not passed on; %s", kind, text)}
}

// lastWill tells OwnTracks listeners that a device is gone, as they know it. What is
// retained there stays: it is where the device was.
func lastWill(tx hooks.Tx, will *mqtt.Message, tst int64) {
	tx.Publish(&mqtt.Message{Topic: will.Topic, QoS: min(will.QoS, 1), Payload: geo.AppendLWT(nil, tst)})
}

// transition tells OwnTracks listeners what a device says about a region of its own. It is
// for fixes that are not late: what a phone that was offline says hours later would be
// taken for news. One as old as the last position is told, since apps send both.
func transition(tx hooks.Tx, f *geo.Fix) {
	topic := ownTracksTopic(f.Who, f.Tracker) + "/event"
	if f.App != nil && f.App.Kind == "transition" && mqtt.ValidTopicName([]byte(topic)) {
		tx.Publish(&mqtt.Message{Topic: topic, QoS: 1, Payload: f.AppendTransition(nil)})
	}
}
