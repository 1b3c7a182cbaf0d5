package georules

import (
	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// position publishes a tracker's newest position, retained: for itself, for its
// person if it is newer than those of the person's other trackers, and in
// OwnTracks' own form.
func position(tx hooks.Tx, f *geo.Fix, via string, ofPerson bool) {
	body := f.AppendJSON(nil, tx.Now(), via)
	if ofPerson {
		retain(tx, locationTopic(f.Who), body)
	}
	retain(tx, locationTopic(f.Who)+"/"+f.Tracker, body)
	retain(tx, ownTracksTopic(f.Who, f.Tracker), f.AppendOwnTracks(nil))
}

// clearPosition takes a tracker's retained position away, and its person's.
func clearPosition(tx hooks.Tx, t *tracker, ofPerson bool) {
	if ofPerson {
		retain(tx, locationTopic(t.who), nil)
	}
	retain(tx, locationTopic(t.who)+"/"+t.name, nil)
	retain(tx, ownTracksTopic(t.who, t.name), nil)
}

func locationTopic(who string) string { return "users/" + hooks.EncodeName(who) + "/location" }

func ownTracksTopic(who, tracker string) string {
	return "owntracks/" + hooks.EncodeName(who) + "/" + tracker
}

func retain(tx hooks.Tx, topic string, body []byte) {
	if mqtt.ValidTopicName([]byte(topic)) {
		tx.Publish(&mqtt.Message{Topic: topic, QoS: 1, Retain: true, Payload: body})
	}
}
