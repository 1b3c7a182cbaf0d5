package acl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// filter is a topic filter by its levels. A topic name is a filter without
// wildcards.
type filter []string

func split(f string) filter { return strings.Split(f, "/") }

// wild reports whether the first level is a wildcard.
func (f filter) wild() bool { return f[0] == "+" || f[0] == "#" }

// hidden reports whether the first level is one that wildcards don't match there
// [MQTT-4.7.2-1].
func (f filter) hidden() bool { return strings.HasPrefix(f[0], "$") }

// covers reports whether a matches every topic that b matches: who may read a
// may subscribe to b.
func (a filter) covers(b filter) bool {
	if a.wild() && b.hidden() {
		return false
	}
	if len(a) == 2 && a[0] == "+" && a[1] == "#" {
		return true // any topic has a first level: +/# is #
	}
	for i := range a {
		switch {
		case a[i] == "#":
			return true
		case i == len(b) || b[i] == "#" || a[i] != "+" && a[i] != b[i]:
			return false
		case i+1 == len(a):
			return len(b) == len(a)
		}
	}
	return false
}

// overlaps reports whether there is a topic that both match.
func (a filter) overlaps(b filter) bool {
	if a.wild() && b.hidden() || b.wild() && a.hidden() {
		return false
	}
	for i := 0; ; i++ {
		switch {
		case i == len(a):
			return i == len(b) || b[i] == "#"
		case i == len(b):
			return a[i] == "#"
		case a[i] == "#" || b[i] == "#":
			return true
		case a[i] != b[i] && a[i] != "+" && b[i] != "+":
			return false
		}
	}
}

// pattern is a filter of the file, in which %u and %c stand for the user and the
// client id of who asks.
type pattern struct {
	text   string
	levels filter
	user   bool // it holds %u
	client bool // it holds %c
}

// errPercent says what may follow a % in a filter.
var errPercent = errors.New("in a filter, % begins %u (the user), %c (the client id), or two upper-case hex digits as in %2F")

// parsePattern reads a filter of the file.
func parsePattern(text string) (p pattern, err error) {
	if err := mqtt.ValidFilter(text); err != nil {
		return p, fmt.Errorf("%q: %s", text, strings.TrimPrefix(err.Error(), "mqtt: "))
	}
	if strings.HasPrefix(text, "$share/") {
		return p, errors.New("a shared subscription is allowed by its filter: leave $share/name/ away")
	}
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			break
		}
		switch {
		case strings.HasPrefix(after, "u"):
			p.user = true
		case strings.HasPrefix(after, "c"):
			p.client = true
		case len(after) < 2 || !hexDigit(after[0]) || !hexDigit(after[1]):
			return p, errPercent
		}
		rest = after
	}
	p.text, p.levels = text, split(text)
	return p, nil
}

func hexDigit(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

// of is the pattern as a filter for id; ok is false if it needs what id does not
// have. The user and client id are percent-encoded: they can't bring in wildcards
// or levels.
func (p *pattern) of(id *hooks.Identity) (f filter, ok bool) {
	if !p.user && !p.client {
		return p.levels, true
	}
	if p.user && id.User == "" || p.client && id.Client == "" {
		return nil, false
	}
	f = make(filter, len(p.levels))
	for i, level := range p.levels {
		f[i] = fill(level, id)
	}
	return f, true
}

// fill puts the names of id into a level.
func fill(level string, id *hooks.Identity) string {
	switch {
	case level == "%u":
		return hooks.EncodeName(id.User)
	case level == "%c":
		return hooks.EncodeName(id.Client)
	case !strings.Contains(level, "%"):
		return level
	}
	return strings.NewReplacer("%u", hooks.EncodeName(id.User), "%c", hooks.EncodeName(id.Client)).Replace(level)
}

// glob reports whether text is like pattern, in which * stands for any characters.
func glob(pattern, text string) bool {
	head, rest, more := strings.Cut(pattern, "*")
	if !more {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, head)
	if !ok {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}
