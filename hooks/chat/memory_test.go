package chat_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/mqtt"
)

const (
	hour = 3600 * 1000
	week = 7 * 24 * hour
)

// memories counts the records of clients' own ids.
func (w *world) memories() (n int) {
	for key := range w.records {
		if key[0] == 'd' {
			n++
		}
	}
	return n
}

// P4, and a disk that doesn't grow for ever: what a client's own id stood for is
// known for seven days, over restarts, and then goes with the messages that follow.
func TestMemoryOfRetriesIsForSevenDaysAndThenGoes(t *testing.T) {
	w := newWorld(false)
	say := func(hours int) {
		t.Helper()
		if err := w.send("ann", fmt.Sprintf("users/bob/chat/message-%d", hours), "x"); err != nil {
			t.Fatal(err)
		}
	}
	const month = 30 * 24
	for h := range month {
		say(h)
		again := len(w.inbox["bob"])
		say(h)
		say(max(h-7*24+1, 0)) // an hour less than seven days ago
		if n := len(w.inbox["bob"]); n != again {
			t.Fatalf("hour %d: a retry had a second effect", h)
		}
		if n := w.memories(); n > 7*24+1 {
			t.Fatalf("hour %d: %d ids are known", h, n)
		}
		if h%50 == 0 {
			w.hook = chat.New(people, false)
			if err := w.hook.Restore(w, w.now); err != nil {
				t.Fatal(err)
			}
		}
		w.now += hour
	}
	if n := len(w.records); n > 2*(7*24+1)+1 {
		t.Errorf("%d records are left", n)
	}
	before := len(w.inbox["bob"])
	if say(0); len(w.inbox["bob"]) != before+1 {
		t.Error("after seven days an id is not free again")
	}
}

// What a busy day has left goes faster than it came, also with messages that have
// no id of their own.
func TestABusyDayIsForgotten(t *testing.T) {
	w := newWorld(false)
	for i := range 800 {
		if err := w.send("ann", fmt.Sprintf("users/bob/chat/message-%d", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	w.now += week
	for range 100 {
		if err := w.send("bob", "users/ann/chat", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.records); n != 1 {
		t.Errorf("%d records are left, want that of numbering", n)
	}
}

// An id that is used again after seven days is known for seven more, though its old
// memory goes meanwhile.
func TestAnIDThatIsUsedAgainIsKnownAgain(t *testing.T) {
	w := newWorld(false)
	say := func() (effects int) {
		t.Helper()
		before := len(w.inbox["bob"])
		if err := w.send("ann", "users/bob/chat/the-same-id", "x"); err != nil {
			t.Fatal(err)
		}
		return len(w.inbox["bob"]) - before
	}
	for round := range 4 {
		if say() != 1 {
			t.Fatalf("round %d: a new message has no effect", round)
		}
		for range 3 { // by the first one, what is over goes
			if err := w.send("ann", "users/bob/chat", "another"); err != nil {
				t.Fatal(err)
			}
			if w.now += week / 4; say() != 0 {
				t.Fatalf("round %d: a retry had a second effect", round)
			}
		}
		w.now += week / 4
	}
}

// Messages that were at their Gates at the same time forget what is over once, and not
// what one of them has just said.
func TestMessagesForgetBesideEachOther(t *testing.T) {
	w := newWorld(false)
	for i := range 12 {
		if err := w.send("ann", fmt.Sprintf("users/bob/chat/message-%d", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	w.now += week
	var waiting []*hooks.Publish
	for _, topic := range []string{"users/bob/chat/message-1", "users/bob/chat", "users/bob/chat/message-1", "users/bob/chat"} {
		p, err := w.gate("ann", topic, "x")
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, p)
	}
	for _, p := range waiting {
		if err := w.apply(p); err != nil {
			t.Fatal(err)
		}
	}
	if events, n := len(w.inbox["bob"]), w.memories(); events != 15 || n != 5 {
		t.Errorf("%d events, %d ids are known; want 15, and the 4 that one message leaves with its own", events, n)
	}
	if err := w.send("ann", "users/bob/chat", "x"); err != nil {
		t.Fatal(err)
	}
	if n := w.memories(); n != 1 {
		t.Errorf("%d ids are known, want the one that is in use", n)
	}
}

// A message that is refused forgets nothing: numbering is as it was.
func TestARefusedMessageForgetsNothing(t *testing.T) {
	w := newWorld(false)
	if err := w.send("ann", "users/bob/chat/message-1", "x"); err != nil {
		t.Fatal(err)
	}
	w.now += week
	w.full = true
	if err := w.send("ann", "users/bob/chat/message-2", "x"); err == nil {
		t.Fatal("a full inbox took it")
	}
	w.full = false
	if err := w.send("ann", "users/bob/chat/message-2", "x"); err != nil {
		t.Fatal(err)
	}
	if len(w.inbox["bob"]) != 2 || w.memories() != 1 {
		t.Errorf("%d events, %d ids are known", len(w.inbox["bob"]), w.memories())
	}
}

// restart goes on with a new hook from the records.
func (w *world) restart() error {
	w.hook = chat.New(people, false)
	return w.hook.Restore(w, w.now)
}

// Where numbering stopped is found again if its record is lost: retries are known, and
// all of it goes in time.
func TestNumberingIsFoundAgain(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"damaged": func(w *world) { w.records["l"] = []byte("?") },
		"missing": func(w *world) { delete(w.records, "l") },
	} {
		w := newWorld(false)
		for i := range 20 {
			if err := w.send("ann", fmt.Sprint("users/bob/chat/message-", i), "x"); err != nil {
				t.Fatal(err)
			}
		}
		lose(w)
		err := w.restart()
		if d, _ := errors.AsType[*hooks.Damage](err); (d != nil) != (name == "damaged") || d == nil && err != nil {
			t.Errorf("%s: Restore says %v", name, err)
		}
		for _, i := range []int{3, 20} {
			if err := w.send("ann", fmt.Sprint("users/bob/chat/message-", i), "x"); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.inbox["bob"]); n != 21 {
			t.Errorf("%s: bob has %d messages, want 21", name, n)
		}
		w.now += week
		w.hook.Tick(tx{w})
		if n := len(w.records); n != 1 {
			t.Errorf("%s: %d records are left, want that of numbering", name, n)
		}
	}
}

func TestARecordOfANewerVersionIsRefused(t *testing.T) {
	w := newWorld(false)
	w.records["l"] = append([]byte{'N', 2}, make([]byte, 24)...)
	if err := w.restart(); !errors.Is(err, mqtt.ErrNewer) {
		t.Errorf("got %v", err)
	}
}

// Memories go though nobody writes, in steps, and a damaged one holds nothing up.
func TestMemoriesGoByThemselves(t *testing.T) {
	w := newWorld(false)
	const n = 600
	for i := range n {
		if err := w.send("ann", fmt.Sprint("users/bob/chat/message-", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	w.records["o\x00\x00\x00\x00\x00\x00\x00\x00"] = []byte("?")
	delete(w.records, "o\x00\x00\x00\x00\x00\x00\x00\x05")
	w.now += week - 1
	if w.hook.Tick(tx{w}); w.memories() != n {
		t.Fatalf("%d of %d ids are known before their time", w.memories(), n)
	}
	w.now += 60_000
	for _, left := range []int{n - 256, n - 512, 2} {
		if w.hook.Tick(tx{w}); w.memories() != left {
			t.Errorf("%d ids are known, want %d", w.memories(), left)
		}
		w.now += 1000
	}
	if err := w.restart(); err != nil {
		t.Fatal(err)
	}
	if err := w.send("ann", "users/bob/chat/message-7", "x"); err != nil || len(w.inbox["bob"]) != n+1 {
		t.Errorf("an id that is over was not taken again: %v", err)
	}
}

var errFull = &hooks.Refusal{Text: "full"}
