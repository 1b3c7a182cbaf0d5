package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/mqtt"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/+", "a/b", true}, {"a/+", "a", false}, {"a/+", "a/", true}, {"+/+", "/", true},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a", true}, {"#", "/", true}, {"+", "/", false},
		{"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"$SYS/+", "$SYS/x", true},
		{"a", "A", false}, {"a/b", "a/b/c", false}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
	} {
		if got := mqtt.Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) is %v", c.filter, c.topic, got)
		}
	}
}

func TestFilters(t *testing.T) {
	for f, ok := range map[string]bool{"a": true, "#": true, "a/#": true, "a/+/b": true, "": false, "a#": false, "a/#/b": false, "a+/b": false, "+a": false, "\xff": false} {
		if err := mqtt.ValidFilter(f); (err == nil) != ok {
			t.Errorf("ValidFilter(%q): %v", f, err)
		}
	}
	for f, ok := range map[string]bool{"$share/g/a": true, "$share/g/#": true, "$share//a": false, "$share/g": false, "$share/g/": false, "$share/+/a": false} {
		_, _, got, err := mqtt.ParseShared(f)
		if got != ok || (err == nil) != ok {
			t.Errorf("ParseShared(%q): %v, %v", f, got, err)
		}
	}
}

// The index against a list of filters and Match.
func TestIndexAgreesWithAList(t *testing.T) {
	names := []string{"a", "b", "c", "", "+", "$x"}
	rapid.Check(t, func(t *rapid.T) {
		var x mqtt.Index[int, string]
		list := map[string]string{}
		many := rapid.IntRange(0, 40).Draw(t, "many names")
		level := rapid.SampledFrom(names)
		if many > 0 {
			level = rapid.OneOf(rapid.SampledFrom(names), rapid.Map(rapid.IntRange(0, many), func(n int) string { return fmt.Sprint("n", n) }))
		}
		filled := rapid.IntRange(0, 150).Draw(t, "filled")
		for step := range rapid.IntRange(1, 200).Draw(t, "steps") {
			f := strings.Join(rapid.SliceOfN(level, 1, 3).Draw(t, "filter"), "/")
			if rapid.Bool().Draw(t, "hash") {
				f += "/#"
			}
			k := rapid.IntRange(0, 20).Draw(t, "key")
			id := fmt.Sprint(f, " ", k)
			if _, had := list[id]; step < filled && !had {
				x.Fill(f, k, "filled")
				list[id] = "filled"
			} else if rapid.IntRange(0, 2).Draw(t, "delete") == 0 {
				_, want := list[id]
				if got := x.Delete(f, k); got != want {
					t.Fatalf("Delete(%s) is %v", id, got)
				}
				delete(list, id)
			} else {
				v := rapid.StringN(1, 3, 3).Draw(t, "value")
				x.Set(f, k, v)
				list[id] = v
			}
			topic := strings.ReplaceAll(strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/"), "+", "d")
			var got, want []string
			x.Match(topic, func(f string, k int, v string) { got = append(got, fmt.Sprint(f, " ", k, "=", v)) })
			for id, v := range list {
				if f, _, _ := strings.Cut(id, " "); mqtt.Match(f, topic) {
					want = append(want, id+"="+v)
				}
			}
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Fatalf("%q: got %q, want %q", topic, got, want)
			}
			if x.Len() != len(list) {
				t.Fatalf("Len is %d, want %d", x.Len(), len(list))
			}
		}
	})
}

func TestIndexIsReadWhileItIsWritten(t *testing.T) {
	var x mqtt.Index[int, int]
	x.Set("always/#", 0, 0)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 0
				x.Match("always/here", func(string, int, int) { n++ })
				if n < 1 {
					t.Error("an entry that was always there was not found")
					return
				}
			}
		})
	}
	for i := range 20000 {
		x.Set(fmt.Sprint("always/", i%100), i%37, i)
		x.Delete(fmt.Sprint("always/", (i+50)%100), i%37)
	}
	close(stop)
	wg.Wait()
}

// Who matches is told one by one: neither a match nor what it passes over allocates.
func TestMatchingAllocatesNothing(t *testing.T) {
	var x mqtt.Index[int, string]
	for k := range 1000 {
		x.Set("a/+/c", k, "")
		x.Set(fmt.Sprintf("user/%d/inbox", k), k, "")
	}
	for topic, want := range map[string]int{"a/b/c": 1000, "user/7/inbox": 1, "none": 0} {
		n := 0
		got := testing.AllocsPerRun(10, func() {
			n = 0
			x.Match(topic, func(string, int, string) { n++ })
		})
		if n != want || got > 0 {
			t.Errorf("%s: %d matches, want %d, with %.0f allocations", topic, n, want, got)
		}
	}
}
