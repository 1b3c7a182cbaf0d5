package hooks_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/hooks"
)

func TestNames(t *testing.T) {
	for _, row := range []struct {
		name  string
		ok    bool
		level string
	}{
		{"ann", true, "ann"}, {"Zoë", true, "Zoë"}, {"a$b", true, "a$b"}, {"50%", true, "50%25"}, {strings.Repeat("x", 128), true, strings.Repeat("x", 128)},
		{"", false, ""}, {"$SYS", false, "%24SYS"}, {"a/b", false, "a%2Fb"}, {"+", false, "%2B"}, {"#", false, "%23"}, {"a b", false, "a%20b"},
		{"a\x00b", false, "a%00b"}, {"a\u0085b", false, "a%C2%85b"}, {"a\u00a0b", false, "a%C2%A0b"}, {"\xff", false, "%FF"}, {"�", true, "�"},
		{strings.Repeat("x", 129), false, strings.Repeat("x", 129)},
	} {
		if err := hooks.ValidName(row.name); (err == nil) != row.ok {
			t.Errorf("ValidName(%q) = %v", row.name, err)
		}
		if got := hooks.EncodeName(row.name); got != row.level {
			t.Errorf("EncodeName(%q) = %q, want %q", row.name, got, row.level)
		}
	}
}

// An encoded name is one level without wildcards, and can be read back.
func TestEncodedNamesAreOneLevel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		got := hooks.EncodeName(name)
		if strings.ContainsAny(got, "/+# \x00") || strings.HasPrefix(got, "$") {
			t.Fatalf("%q is encoded as %q", name, got)
		}
		if back := hooks.DecodeName(got); back != name {
			t.Fatalf("%q is encoded as %q, which is %q", name, got, back)
		}
	})
}
