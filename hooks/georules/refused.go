package georules

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// invalid is the refusal of a payload that can't be read.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: strings.TrimPrefix(err.Error(), "geo: ")}
}

// why says what is wrong with the first report that was not taken.
func (d *prepared) why() string {
	text := fmt.Sprintf("report %d: %s", d.bad[0].Index+1, d.bad[0].Reason)
	if n := len(d.bad) - 1; n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text
}

// tellBad tells a device which of its reports were not taken, though others were.
func tellBad(tx hooks.Tx, p *hooks.Publish, d *prepared) {
	body, _ := json.Marshal(struct { // numbers and strings can always be marshalled
		V      int    `json:"v"`
		Type   string `json:"type"`
		Reason byte   `json:"reason"`
		Name   string `json:"name"`
		Text   string `json:"text"`
		Topic  string `json:"topic"`
		TS     int64  `json:"ts"`
	}{1, "err", byte(mqtt.PayloadFormatInvalid), mqtt.PayloadFormatInvalid.Name(), d.why(), p.Message.Topic, tx.Now()})
	tx.Reply(&mqtt.Message{Topic: "users/" + hooks.EncodeName(p.From.User) + "/reply", QoS: 1, Payload: body})
}

// untold is what was refused or not delivered since the log was last told. The core owns
// it: nobody logs for each fix.
type untold struct {
	bad, events int    // reports, and publishes and ticks with events
	why, whose  string // of the last of the reports
	failed      error  // the last event's
	told        int64  // core time
}

// reports notes the reports of a publish that were not taken, though others were.
func (u *untold) reports(p *hooks.Publish, d *prepared) {
	u.bad += len(d.bad)
	u.why, u.whose = d.why(), p.From.User
}

// undelivered notes that an event could not be given to all its recipients, if err is one.
func (h *Hook) undelivered(err error) {
	if err == nil {
		return
	}
	h.Undelivered.Add(1)
	h.untold.events++
	h.untold.failed = err
}

// tell logs what there is to tell, at most once a minute.
func (u *untold) tell(log *slog.Logger, now int64) {
	if log == nil || u.bad+u.events == 0 || u.told != 0 && now-u.told < 60_000 {
		return
	}
	if u.bad > 0 {
		log.Warn("reports were refused", "reports", u.bad, "user", u.whose, "text", u.why)
	}
	if u.events > 0 {
		log.Warn("events could not be given to all their recipients", "publishes", u.events, "err", u.failed)
	}
	*u = untold{told: now}
}
