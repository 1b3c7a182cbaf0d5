package mqtt_test

import (
	"slices"
	"testing"

	"github.com/geocast/geocast/mqtt"
)

func TestUserPropsAreReadAsTheyWereAppended(t *testing.T) {
	for name, props := range map[string][]mqtt.UserProp{
		"none":             nil,
		"empty words":      {{}, {Key: "k"}, {Value: "v"}},
		"the same key":     {{Key: "k", Value: "2"}, {Key: "k", Value: "1"}},
		"other characters": {{Key: "ключ", Value: "naïve\n"}},
	} {
		var wire []byte
		for _, p := range props {
			wire = mqtt.AppendUserProp(wire, p)
		}
		if got := mqtt.UserProps(wire); !slices.Equal(got, props) {
			t.Errorf("%s: got %v, want %v", name, got, props)
		}
		for n := range wire { // cut short: what is whole stays
			if got := mqtt.UserProps(wire[:n]); len(got) >= len(props) || !slices.Equal(got, props[:len(got)]) {
				t.Errorf("%s, cut at %d: got %v", name, n, got)
			}
		}
	}
}
