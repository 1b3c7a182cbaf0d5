package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// devices counts the cursors that are stored.
func (s *sim) devices() (n int) {
	time.Sleep(2 * time.Second) // what was lazy is on disk
	_ = s.mem.Scan(0x29, nil, nil, func(_, _ []byte) store.Next { n++; return store.Next{} })
	return n
}

// device is one of ann's, subscribed to her inbox.
func (s *sim) device(id string, change ...func(*mqtt.Connect)) *client {
	s.t.Helper()
	d := s.joins(mqtt.V5, id, append([]func(*mqtt.Connect){month, user("ann")}, change...)...)
	d.subscribe("users/ann/inbox", 1)
	return d
}

// A device that was given up for others does not become a 17th one when it comes back,
// by its session or by a restart: it waits until one of the others goes.
func TestADeviceThatWasGivenUpIsNoSeventeenth(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
				s.device("given-up").leave()
				var others []*client
				for i := range 16 {
					others = append(others, s.device(fmt.Sprint("d", i)))
				}
				if n := s.devices(); n != 16 {
					t.Fatalf("there are %d devices", n)
				}
				if restart {
					s.crash()
					for i := range others {
						others[i] = s.joins(mqtt.V5, fmt.Sprint("d", i), month, user("ann"))
					}
				}
				if n := s.devices(); n != 16 {
					t.Fatalf("there are %d devices after the restart", n)
				}
				if a := s.dial(mqtt.V5).connect("given-up", month, user("ann")); a.Reason != mqtt.QuotaExceeded {
					t.Errorf("its CONNECT is answered with %v", a.Reason)
				}
				others[3].leave()
				back := s.joins(mqtt.V5, "given-up", month, user("ann"))
				if n := s.devices(); n != 16 {
					t.Errorf("there are %d devices in the end", n)
				}
				tell(t, s.joins(mqtt.V5, "p", still), "ann", "hello")
				if e := back.event(); e.Body != "hello" {
					t.Errorf("it got %+v", e)
				}
				for i, d := range others {
					if i != 3 {
						d.event()
					}
				}
			})
		})
	}
}

// A restart makes no devices of sessions that were given up, and lets none go for them.
func TestARestartKeepsTheDevices(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		for i := range 20 { // the first four are given up
			s.device(fmt.Sprint("d", i)).leave()
		}
		p := s.joins(mqtt.V5, "p", still)
		tell(t, p, "ann", "hello")
		s.restart()
		s.restart()
		if n := s.devices(); n != 16 {
			t.Errorf("there are %d devices", n)
		}
		for i := 4; i < 20; i++ {
			d := s.joins(mqtt.V5, fmt.Sprint("d", i), month, user("ann"))
			if e := d.event(); e.Body != "hello" {
				t.Errorf("device %d got %+v", i, e)
			}
			d.leave()
		}
	})
}

func TestTheCursorOfAnAssignedIDEndsWithItsSession(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(s *sim, d *client)
	}{
		{"by a DISCONNECT", func(_ *sim, d *client) { d.leave() }},
		{"by a crash", func(s *sim, _ *client) { time.Sleep(2 * time.Second); s.crash() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
				d := s.dial(mqtt.V5)
				d.connect("", user("ann"), still)
				d.subscribe("users/ann/inbox", 1)
				if n := s.devices(); n != 1 {
					t.Fatalf("there are %d devices", n)
				}
				test.end(s, d)
				if n := s.devices(); n != 0 {
					t.Errorf("%d devices are left", n)
				}
			})
		})
	}
}

func TestADeviceEndsAfter30IdleDays(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		s.device("one", func(p *mqtt.Connect) { p.SessionExpiry = 60 }).leave()
		s.device("two")
		s.later(30*24*time.Hour - time.Minute)
		here := s.joins(mqtt.V5, "two", month, user("ann"))
		time.Sleep(50 * time.Second)
		if n := s.devices(); n != 2 {
			t.Errorf("there are %d devices before their time", n)
		}
		time.Sleep(2 * time.Minute)
		if n := s.devices(); n != 1 {
			t.Errorf("there are %d devices, want the one that is connected", n)
		}
		here.leave()
		s.later(30*24*time.Hour - 10*time.Second)
		if n := s.devices(); n != 1 {
			t.Errorf("there are %d devices before their time", n)
		}
		time.Sleep(time.Minute) // its session ends, too
		if n := s.devices(); n != 0 {
			t.Errorf("%d devices are left", n)
		}
	})
}

// A first device begins at the oldest event that is kept, a later one at the head.
func TestWhereADeviceBegins(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		p := s.joins(mqtt.V5, "p", still)
		tell(t, p, "ann", "before")
		first := s.device("first")
		if e := first.event(); e.Body != "before" {
			t.Errorf("the first device got %+v", e)
		}
		second := s.device("second")
		second.nothing()
		tell(t, p, "ann", "after")
		for _, d := range []*client{first, second} {
			if e := d.event(); e.Body != "after" {
				t.Errorf("got %+v", e)
			}
		}
	})
}
