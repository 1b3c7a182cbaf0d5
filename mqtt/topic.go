package mqtt

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Errors of ValidFilter and ParseShared; the text says what would be right.
var (
	ErrFilterEmpty    = errors.New("mqtt: a topic filter has at least one character")
	ErrFilterLong     = errors.New("mqtt: a topic filter has at most 65,535 bytes")
	ErrFilterText     = errors.New("mqtt: a topic filter is UTF-8 without U+0000")
	ErrFilterWildcard = errors.New("mqtt: + and # stand alone in their level, and # only in the last one")
	ErrFilterShare    = errors.New("mqtt: a shared subscription is $share/name/filter, the name without wildcards")
)

// ValidTopicName reports whether t can be published to [MQTT-4.7.1-1, 4.7.3].
func ValidTopicName(t []byte) bool {
	if len(t) == 0 || len(t) > 65535 {
		return false
	}
	for _, c := range t {
		if c == '+' || c == '#' || c == 0 {
			return false
		}
	}
	return utf8.Valid(t)
}

// ValidFilter says what is wrong with a topic filter, or nil [MQTT-4.7].
func ValidFilter(f string) error {
	switch {
	case f == "":
		return ErrFilterEmpty
	case len(f) > 65535:
		return ErrFilterLong
	case !utf8.ValidString(f) || strings.IndexByte(f, 0) >= 0:
		return ErrFilterText
	}
	for rest, more := f, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && (len(level) != 1 || level == "#" && more) {
			return ErrFilterWildcard
		}
	}
	return nil
}

// ParseShared splits $share/group/filter [MQTT-4.8.2]. ok is false for a filter
// that is not shared.
func ParseShared(f string) (group, rest string, ok bool, err error) {
	body, ok := strings.CutPrefix(f, "$share/")
	if !ok {
		if f == "$share" {
			return "", "", false, ErrFilterShare
		}
		return "", "", false, nil
	}
	group, rest, found := strings.Cut(body, "/")
	if !found || group == "" || rest == "" || strings.ContainsAny(group, "+#") {
		return "", "", false, ErrFilterShare
	}
	return group, rest, true, nil
}

// Match reports whether a topic filter matches a topic name [MQTT-4.7]; both
// must be valid. A leading wildcard does not match a topic that begins with $
// [MQTT-4.7.2-1].
func Match(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	return matchBelow(filter, topic)
}

// matchBelow is Match from any level on.
func matchBelow(filter, topic string) bool {
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !fmore:
			return !tmore
		case !tmore:
			return frest == "#"
		}
		filter, topic = frest, trest
	}
}
