package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/geocast/geocast/mqtt"
)

// format is an output format as in mosquitto_sub -F, compiled: text and fields in
// turn.
type format []func(dst []byte, m *mqtt.Message, at time.Time) []byte

// fields are the letters that may follow a %.
var fields = map[byte]func(dst []byte, m *mqtt.Message, at time.Time) []byte{
	't': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, m.Topic...) },
	'p': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, m.Payload...) },
	'l': func(dst []byte, m *mqtt.Message, _ time.Time) []byte {
		return strconv.AppendInt(dst, int64(len(m.Payload)), 10)
	},
	'q': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return strconv.AppendInt(dst, int64(m.QoS), 10) },
	'r': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, flag(m.Retain)) },
	'x': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return fmt.Appendf(dst, "%x", m.Payload) },
	'X': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return fmt.Appendf(dst, "%X", m.Payload) },
	'I': func(dst []byte, _ *mqtt.Message, at time.Time) []byte { return at.AppendFormat(dst, isoTime) },
	'U': func(dst []byte, _ *mqtt.Message, at time.Time) []byte {
		return fmt.Appendf(dst, "%d.%09d", at.Unix(), at.Nanosecond())
	},
	'j': func(dst []byte, m *mqtt.Message, at time.Time) []byte { return appendJSON(dst, m, at, false) },
	'J': func(dst []byte, m *mqtt.Message, at time.Time) []byte { return appendJSON(dst, m, at, true) },
	'C': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, m.ContentType...) },
	'R': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, m.ResponseTopic...) },
	'D': func(dst []byte, m *mqtt.Message, _ time.Time) []byte { return append(dst, m.Correlation...) },
	'E': func(dst []byte, m *mqtt.Message, at time.Time) []byte {
		if m.Expires == 0 {
			return dst
		}
		return strconv.AppendInt(dst, secondsLeft(m, at), 10)
	},
	'F': func(dst []byte, m *mqtt.Message, _ time.Time) []byte {
		if !m.HasFormat {
			return dst
		}
		return strconv.AppendInt(dst, int64(m.Format), 10)
	},
	'P': func(dst []byte, m *mqtt.Message, _ time.Time) []byte {
		for i, u := range mqtt.UserProps(m.User) {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = append(dst, u.Key+":"+u.Value...)
		}
		return dst
	},
	'%': func(dst []byte, _ *mqtt.Message, _ time.Time) []byte { return append(dst, '%') },
}

const isoTime = "2006-01-02T15:04:05-0700"

// escapes are what may follow a backslash.
var escapes = map[byte]byte{'\\': '\\', '0': 0, 'a': '\a', 'e': 0x1b, 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// parseFormat compiles the text of -F.
func parseFormat(s string) (format, error) {
	var f format
	for i := 0; i < len(s); i++ {
		if s[i] != '%' && s[i] != '\\' {
			f = append(f, literal(s[i]))
			continue
		}
		i++
		if i == len(s) {
			return nil, fmt.Errorf("-F: the %c at the end stands alone: write it twice", s[i-1])
		}
		if c, ok := escapes[s[i]]; ok && s[i-1] == '\\' {
			f = append(f, literal(c))
		} else if field, ok := fields[s[i]]; ok && s[i-1] == '%' {
			f = append(f, field)
		} else {
			return nil, fmt.Errorf("-F, character %d: there is no %s: there are %%t %%p %%l %%q %%r %%x %%X %%I %%U %%j %%J %%C %%R %%D %%E %%F %%P, and \\n \\t \\r \\0 \\a \\e \\v", i, s[i-1:i+1])
		}
	}
	return f, nil
}

func literal(c byte) func([]byte, *mqtt.Message, time.Time) []byte {
	return func(dst []byte, _ *mqtt.Message, _ time.Time) []byte { return append(dst, c) }
}

// appendTo appends m, which came at a time, in the format.
func (f format) appendTo(dst []byte, m *mqtt.Message, at time.Time) []byte {
	for _, part := range f {
		dst = part(dst, m, at)
	}
	return dst
}

func flag(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

func secondsLeft(m *mqtt.Message, at time.Time) int64 {
	return max(m.Expires-at.UnixMilli()+999, 0) / 1000
}

// messageJSON is %j and %J.
type messageJSON struct {
	Tst        string          `json:"tst"`
	Topic      string          `json:"topic"`
	QoS        byte            `json:"qos"`
	Retain     json.RawMessage `json:"retain"`
	Length     int             `json:"payloadlen"`
	Payload    any             `json:"payload"`
	Properties map[string]any  `json:"properties,omitempty"`
}

// appendJSON appends m as an object; asJSON takes a payload that is JSON as it is.
func appendJSON(dst []byte, m *mqtt.Message, at time.Time, asJSON bool) []byte {
	o := messageJSON{at.Format("2006-01-02T15:04:05.000000-0700"), m.Topic, m.QoS, json.RawMessage{flag(m.Retain)}, len(m.Payload),
		string(m.Payload), propertiesJSON(m, at)}
	if !utf8.Valid(m.Payload) {
		o.Payload = fmt.Sprintf("%x", m.Payload)
	}
	if asJSON && json.Valid(m.Payload) {
		o.Payload = json.RawMessage(m.Payload)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		panic(err) // every value in it can be encoded
	}
	return append(dst, strings.TrimSuffix(b.String(), "\n")...)
}

func propertiesJSON(m *mqtt.Message, at time.Time) map[string]any {
	p := make(map[string]any)
	if m.HasFormat {
		p["payload-format-indicator"] = m.Format
	}
	if m.Expires > 0 {
		p["message-expiry-interval"] = secondsLeft(m, at)
	}
	for name, v := range map[string]string{"content-type": m.ContentType, "response-topic": m.ResponseTopic, "correlation-data": string(m.Correlation)} {
		if v != "" {
			p[name] = v
		}
	}
	var user []map[string]string
	for _, u := range mqtt.UserProps(m.User) {
		user = append(user, map[string]string{u.Key: u.Value})
	}
	if user != nil {
		p["user-properties"] = user
	}
	return p
}
