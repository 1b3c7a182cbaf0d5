package hooks

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/geocast/geocast/geo"
)

// ErrName is returned by ValidName.
var ErrName = errors.New("a name has 1 to 128 bytes of UTF-8, without / + # and space, and does not begin with $")

// ValidName says whether name can be given to a user or a group: 1 to 128 bytes
// of UTF-8 without / + #, space and control characters, not beginning with $.
// The error is ErrName or nil.
func ValidName(name string) error {
	if !geo.ValidName(name) {
		return ErrName
	}
	return nil
}

// EncodeName is how an identity stands in a topic level: what ValidName does not
// take, and %, is percent-encoded with upper-case hex digits. Different names have
// different encodings, and none holds a wildcard or a separator. It may be called
// from any goroutine.
func EncodeName(name string) string {
	if ValidName(name) == nil && !strings.Contains(name, "%") {
		return name
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(name)+8)
	for i, r := range name {
		_, size := utf8.DecodeRuneInString(name[i:])
		plain := r != '%' && !geo.NotInName(r) && (r != '$' || i > 0) && (r != utf8.RuneError || size > 1)
		for _, b := range []byte(name[i : i+size]) {
			if plain {
				out = append(out, b)
			} else {
				out = append(out, '%', hex[b>>4], hex[b&15])
			}
		}
	}
	return string(out)
}

// DecodeName is the identity that stands in a topic level: the inverse of
// EncodeName. What is not encoded so stays as it is.
func DecodeName(level string) string {
	if !strings.Contains(level, "%") {
		return level
	}
	name, err := url.PathUnescape(level)
	if err != nil || EncodeName(name) != level {
		return level
	}
	return name
}
