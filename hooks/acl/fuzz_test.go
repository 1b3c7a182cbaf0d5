package acl_test

import (
	"strings"
	"testing"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/acl"
)

// A grant of d/%u/# gives each user what is below his own name, and nothing of another,
// whatever the names are.
func FuzzOwnLevel(f *testing.F) {
	a, err := acl.Parse("acl.yaml", []byte(`acl: [{allow: {all: true, read: "d/%u/#", write: "d/%u/x"}}]`))
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range [][2]string{{"#", "x"}, {"+", "ann"}, {"ann/x", "ann"}, {"%u", "ann"}, {"%2F", "/"}, {"ann", "ANN"}, {"*", "b"}, {"a%23", "a#"}} {
		f.Add(n[0], n[1])
	}
	f.Fuzz(func(t *testing.T, mine, other string) {
		if mine == other || mine == "" || other == "" {
			return
		}
		me := &hooks.Identity{User: mine}
		for _, topic := range []string{"d/" + hooks.EncodeName(other) + "/x", "d/" + other + "/x"} {
			own := topic == "d/"+hooks.EncodeName(mine)+"/x"
			if decided, _ := a.Decide(&hooks.Request{Identity: me, Topic: topic}, false); decided && !own {
				t.Errorf("%q writes %q", mine, topic)
			}
		}
		for _, filter := range []string{"d/#", "d/+/x", "#", "d/" + hooks.EncodeName(other) + "/#"} {
			if decided, _ := a.Decide(&hooks.Request{Identity: me, Topic: filter, Action: hooks.Read}, false); decided {
				t.Errorf("%q reads %q", mine, filter)
			}
		}
		if decided, no := a.Decide(&hooks.Request{Identity: me, Topic: "d/" + hooks.EncodeName(mine) + "/x"}, false); !decided || no != nil || strings.ContainsAny(hooks.EncodeName(mine), "/+#") {
			t.Errorf("%q does not write his own", mine)
		}
	})
}
