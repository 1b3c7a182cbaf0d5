package broker

import (
	"testing"
	"time"
)

// Room is given in the order of asking, never beyond its bound, and comes back whole.
func TestRoomIsGivenInOrder(t *testing.T) {
	r := &room{most: 100}
	has := func(l *lease) bool {
		select {
		case <-l.ready:
			return true
		default:
			return false
		}
	}
	a, b, small := r.ask(&conn{}, 60), r.ask(&conn{}, 60), r.ask(&conn{}, 10)
	if !has(a) || has(b) || has(small) {
		t.Fatal("who asked first has it; one that would fit does not overtake")
	}
	if r.tardy(a.since, time.Second) != nil || r.tardy(a.since.Add(time.Minute), time.Second) != a.conn {
		t.Error("who holds room for a packet that does not come is told while others wait")
	}
	r.whole(a)
	if r.tardy(a.since.Add(time.Hour), time.Second) != nil {
		t.Error("a whole packet is not late")
	}
	r.give(a.size)
	if !has(b) || !has(small) || r.used != 70 {
		t.Fatalf("%d are used", r.used)
	}
	last := r.ask(&conn{}, 1000) // more than there is: all of it
	r.leave(b)
	r.leave(small)
	if !has(last) || r.used != 100 {
		t.Fatalf("%d are used", r.used)
	}
	waits := r.ask(&conn{}, 5)
	r.leave(waits)
	r.leave(last)
	if r.used != 0 || r.line.Len()+r.partial.Len() != 0 {
		t.Errorf("%d are used, %d wait", r.used, r.line.Len())
	}
}
