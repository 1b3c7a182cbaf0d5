package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// crowd is a hook that puts what is published on crowd, "body number", in the inboxes
// of that many users.
func crowd() *applier {
	return &applier{name: "crowd", filters: "crowd", verdict: hooks.Consume, apply: func(tx hooks.Tx, p *hooks.Publish) error {
		var body string
		var n int
		if _, err := fmt.Sscan(string(p.Message.Payload), &body, &n); err != nil {
			return err
		}
		users := make([]string, n)
		for i := range users {
			users[i] = fmt.Sprint("u", i)
		}
		if body == "nameless" {
			users[n/2] = strings.Repeat("x", 129)
		}
		return tx.Inboxes(users, 0, fmt.Appendf(nil, `{"v":1,"type":"msg","body":%q}`, body))
	}}
}

// readsIn subscribes a user to its inbox and wants these events in this order, and no
// others.
func (s *sim) readsIn(name string, bodies ...string) {
	s.t.Helper()
	c := s.joins(mqtt.V5, "phone", user(name))
	c.subscribe("users/"+name+"/inbox", 1)
	for i, body := range bodies {
		if e := c.event(); e.Seq != i+1 || e.Body != body || e.Epoch == "" || e.Type != "msg" {
			s.t.Fatalf("%s got %+v, want %d: %s", name, e, i+1, body)
		}
	}
	c.quiet()
	c.nc.Close()
	synctest.Wait()
}

func inboxesServesAll(t *testing.T) {
	for _, n := range []int{1, 255, 256, 3000} {
		t.Run(fmt.Sprint(n, " users"), func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{crowd()}}, func(s *sim) {
				p := s.joins(mqtt.V5, "p", user("p"))
				p.publish("crowd", fmt.Sprint("first ", n), 1, 1)
				p.publish("crowd", "second 1", 1, 2) // behind it, though it is for few
				p.wantAck(mqtt.PUBACK, 1)
				p.wantAck(mqtt.PUBACK, 2)
				synctest.Wait()
				s.readsIn("u0", "first", "second")
				for i := 1; i < n; i += max(1, n/20) {
					s.readsIn(fmt.Sprint("u", i), "first")
				}
			})
		})
	}
}

// The acknowledgement is what counts: a crash after it, whatever number of steps are
// on disk, loses nobody's event, and nobody gets it twice.
func inboxesSurvivesACrash(t *testing.T) {
	for steps := range 5 {
		simulate(t, broker.Config{Hooks: []any{crowd()}}, func(s *sim) {
			p := s.joins(mqtt.V5, "p", user("p"))
			one := s.oneByOne()
			p.publish("crowd", "first 3000", 1, 1)
			p.publish("crowd", "second 1", 1, 2)
			p.nothing() // it is not on disk
			one()
			p.wantAck(mqtt.PUBACK, 1)
			for n := 0; ; n++ { // it came for the same batch, for the next one, or after its steps had filled that
				if first, _, err := p.next(time.Second); err == nil && mqtt.Type(first>>4) == mqtt.PUBACK {
					break
				} else if n == 3 {
					s.t.Fatalf("the second one is not acknowledged: %v", err)
				}
				one()
			}
			for range steps {
				one()
			}
			s.crash()
			synctest.Wait()
			s.readsIn("u0", "first", "second")
			for i := 1; i < 3000; i += 100 {
				s.readsIn(fmt.Sprint("u", i), "first")
			}
			s.readsIn("u2999", "first")
		})
	}
}

// oneByOne makes every commit wait until the function that it returns lets one through,
// if one waits.
func (s *sim) oneByOne() (one func()) {
	gate, mem := make(chan struct{}), s.mem
	mem.Hold(gate)
	s.goOn = sync.OnceFunc(func() { close(gate); mem.Hold(nil); synctest.Wait() })
	return func() {
		select {
		case gate <- struct{}{}:
		default: // there is none
		}
		synctest.Wait()
	}
}

func inboxesLeavesOut(t *testing.T) {
	for _, n := range []int{11, 1001} {
		simulate(t, broker.Config{Hooks: []any{crowd()}}, func(s *sim) {
			p := s.joins(mqtt.V5, "p", user("p"))
			p.publish("crowd", fmt.Sprint("nameless ", n), 1, 1)
			if a := p.wantAck(mqtt.PUBACK, 1); a.Reason != mqtt.Success {
				s.t.Errorf("got %v", a.Reason)
			}
			synctest.Wait()
			if got := s.b.Stats().Refused; got != 1 {
				s.t.Errorf("%d are counted", got)
			}
			s.readsIn(fmt.Sprint("u", n-1), "nameless")
		})
	}
}

func inboxesRefuses(t *testing.T) {
	h := crowd()
	apply := h.apply
	h.apply = func(tx hooks.Tx, p *hooks.Publish) error {
		err := apply(tx, p)
		if no, _ := errors.AsType[*hooks.Refusal](err); no == nil || no.Reason != mqtt.QuotaExceeded {
			t.Errorf("got %v", err)
		}
		return nil // what could be done is done: nothing
	}
	simulate(t, broker.Config{Hooks: []any{h}}, func(s *sim) {
		p := s.joins(mqtt.V5, "p", user("p"))
		p.publish("crowd", "x 2000000", 1, 1)
		p.wantAck(mqtt.PUBACK, 1)
		synctest.Wait()
		s.readsIn("u0")
	})
}
