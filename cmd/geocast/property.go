package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
)

// property is one -D: a packet, a property's name in the specification, and its
// value; user-property has a key, too.
type property struct{ packet, name, key, value string }

// properties are all -D of a command line.
type properties []property

// known are the properties that each packet takes here.
var known = map[string][]string{
	"connect":   {"session-expiry-interval", "receive-maximum", "user-property"},
	"publish":   {"payload-format-indicator", "message-expiry-interval", "content-type", "response-topic", "correlation-data", "user-property"},
	"subscribe": {"subscription-identifier"},
	"will": {"will-delay-interval", "payload-format-indicator", "message-expiry-interval", "content-type", "response-topic",
		"correlation-data", "user-property"},
}

// Decode takes the words of one -D.
func (ps *properties) Decode(ctx *kong.DecodeContext) error {
	var p property
	for _, word := range []*string{&p.packet, &p.name, &p.value} {
		var t text
		if err := t.Decode(ctx); err != nil {
			return errors.New("it takes a packet, a property and a value, as in -D publish content-type text/plain")
		}
		*word = strings.TrimSpace(string(t))
	}
	p.packet = strings.ToLower(p.packet)
	names, ok := known[p.packet]
	if !ok {
		return fmt.Errorf("%q has no properties here: there are connect, publish, subscribe and will", p.packet)
	}
	if !slices.Contains(names, p.name) {
		return fmt.Errorf("%s has no property %q here: there are %s", p.packet, p.name, strings.Join(names, ", "))
	}
	if p.name == "user-property" {
		var t text
		if err := t.Decode(ctx); err != nil {
			return fmt.Errorf("%s user-property takes a key and a value", p.packet)
		}
		p.key, p.value = p.value, string(t)
	}
	*ps = append(*ps, p)
	return nil
}

// number reads the value of a property that is one.
func (p property) number(most uint64) (uint64, error) {
	n, err := strconv.ParseUint(p.value, 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("-D %s %s %s: it is a number from 0 to %d", p.packet, p.name, p.value, most)
	}
	return n, nil
}

// connect sets the properties of CONNECT and of the will.
func (ps properties) connect(cfg *client.Config) error {
	for _, p := range ps {
		var n uint64
		var err error
		switch {
		case p.packet == "will" && cfg.Will == nil:
			return errors.New("-D will: there is no will without --will-topic")
		case p.packet == "will":
			err = p.will(cfg.Will)
		case p.packet != "connect":
		case p.name == "session-expiry-interval":
			n, err = p.number(mqtt.NeverExpires)
			cfg.SessionExpiry = uint32(n)
		case p.name == "receive-maximum":
			if n, err = p.number(65535); err == nil && n == 0 {
				err = errors.New("-D connect receive-maximum 0: at least one message is to be received")
			}
			cfg.ReceiveMaximum = uint16(n)
		case p.name == "user-property":
			cfg.UserProps = append(cfg.UserProps, mqtt.UserProp{Key: p.key, Value: p.value})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p property) will(w *mqtt.Will) error {
	if p.name == "will-delay-interval" {
		n, err := p.number(mqtt.NeverExpires)
		w.Delay = uint32(n)
		return err
	}
	var m mqtt.Message
	if err := p.message(&m, 0); err != nil {
		return err
	}
	switch p.name {
	case "payload-format-indicator":
		w.Format, w.HasFormat = m.Format, true
	case "message-expiry-interval":
		w.Expiry, w.HasExpiry = uint32(m.Expires/1000), true
	case "content-type":
		w.ContentType = m.ContentType
	case "response-topic":
		w.ResponseTopic = m.ResponseTopic
	case "correlation-data":
		w.Correlation = m.Correlation
	case "user-property":
		w.User = append(w.User, m.User...)
	}
	return nil
}

// publish sets the properties of PUBLISH; now is in Unix ms.
func (ps properties) publish(m *mqtt.Message, now time.Time) error {
	for _, p := range ps {
		if p.packet == "publish" {
			if err := p.message(m, now.UnixMilli()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p property) message(m *mqtt.Message, now int64) error {
	var n uint64
	var err error
	switch p.name {
	case "payload-format-indicator":
		n, err = p.number(1)
		m.Format, m.HasFormat = byte(n), true
	case "message-expiry-interval":
		n, err = p.number(mqtt.NeverExpires)
		m.Expires = now + int64(n)*1000
	case "content-type":
		m.ContentType = p.value
	case "response-topic":
		m.ResponseTopic = p.value
	case "correlation-data":
		m.Correlation = []byte(p.value)
	case "user-property":
		m.User = mqtt.AppendUserProp(m.User, mqtt.UserProp{Key: p.key, Value: p.value})
	}
	return err
}

// subscription is the subscription identifier, 0 for none.
func (ps properties) subscription() (id uint32, err error) {
	for _, p := range ps {
		if p.packet == "subscribe" {
			n, err := p.number(268_435_455) // [MQTT-3.8.2.1.2]
			if err != nil {
				return 0, err
			}
			id = uint32(n)
		}
	}
	return id, nil
}
