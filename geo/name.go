package geo

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ValidName reports whether name can be that of a user, group or tracker: 1 to 128
// bytes of UTF-8 without / + #, space and control characters, not beginning with $.
func ValidName(name string) bool {
	return name != "" && len(name) <= 128 && name[0] != '$' && utf8.ValidString(name) && !strings.ContainsFunc(name, NotInName)
}

// NotInName reports whether no name may have the character.
func NotInName(r rune) bool {
	return r == '/' || r == '+' || r == '#' || unicode.IsSpace(r) || unicode.IsControl(r)
}
