package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
	"github.com/geocast/geocast/store"
)

// one leaves something of everything in the store of s.
func one(t *testing.T, s *sim) {
	mortal := func(p *mqtt.Connect) {
		month(p)
		p.Will = &mqtt.Will{Topic: "q/will", Payload: []byte("gone"), QoS: 1, Delay: 24 * 3600}
	}
	sub := s.joins(mqtt.V5, "sub", mortal, func(p *mqtt.Connect) { p.ReceiveMaximum = 2 })
	sub.subscribe("q/#", 2)
	sub.subscribe("r/#", 1)
	s.joins(mqtt.V5, "member", month).subscribe("$share/g/q/shared", 1)
	s.joins(mqtt.V5, "passing", still).subscribe("q/#", 1)
	for i := range 300 {
		c := s.joins(mqtt.V311, fmt.Sprint("many", i), func(p *mqtt.Connect) { p.KeepAlive, p.CleanStart = 0, false })
		c.subscribe("q/fan", 1)
		c.nc.Close()
	}
	for _, who := range []string{"ann", "bob"} {
		s.joins(mqtt.V5, who+"-phone", month, user(who)).subscribe("users/"+who+"/inbox", 1)
	}
	d := s.dial(mqtt.V5)
	d.connect("", month, user("ann"))
	d.subscribe("users/ann/inbox", 1)
	p := s.joins(mqtt.V5, "pub", month, user("ann"))
	p.publish("q/1", "two", 2, 1)
	p.wantAck(mqtt.PUBREC, 1) // never released
	rec := sub.message()
	sub.ack(mqtt.PUBREC, rec.ID)
	sub.wantAck(mqtt.PUBREL, rec.ID) // never completed
	p.publish("q/2", "two", 2, 2)
	p.wantAck(mqtt.PUBREC, 2)
	sub.message() // never acknowledged
	say := func(topic, payload string) {
		t.Helper()
		p.publish(topic, payload, 1, 9)
		if a := p.wantAck(mqtt.PUBACK, 9); a.Reason >= 0x80 {
			t.Fatalf("%s is refused: %v %s", topic, a.Reason, a.ReasonString)
		}
	}
	say("q/fan", "to all")
	say("q/shared", "to one")
	say("users/bob/chat/cid-0001", "hello")
	say("users/ann/location/watch", fmt.Sprintf(`{"lat":48,"lon":11,"tst":%d}`, time.Now().Unix()))
	say("users/ann/location/phone", fmt.Sprintf(`{"lat":48,"lon":11,"tst":%d}`, time.Now().Unix()))
	stay(t, s.b, "r/1", "x", 3600)
	stay(t, s.b, "r/2", "x", 3600)
}

// left are the records that the store holds, by what their keys begin with.
func (s *sim) left() (keys []string) {
	for table := store.Table(0x20); table < 0x40; table++ {
		_ = s.mem.Scan(table, nil, nil, func(key, _ []byte) store.Next { // the twin never fails
			keys = append(keys, fmt.Sprintf("%02x %q", byte(table), key))
			return store.Next{}
		})
	}
	for _, kind := range []byte{'q', 'g', 'i'} {
		_ = s.mem.Logs(kind, func(id uint64, at store.Pos, _ []byte) bool {
			keys = append(keys, fmt.Sprintf("%c %d %d", kind, id, at))
			return true
		})
	}
	return keys
}

// When everything has had its time the store is empty, but for where numbering stopped.
func TestTheStoreEmpties(t *testing.T) {
	const day = 24 * time.Hour
	set, err := rules.Parse("rules.yaml", []byte("version: 1\nzones: {depot: {circle: {lat: 48, lon: 11, radius: 1km}}}\nrules: {in: {when: {enter: depot}, to: self}}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	people := rules.NewRoster([]rules.Person{{Name: "ann"}, {Name: "bob"}})
	renew := func(s *sim) { s.cfg.Hooks = []any{georules.New(set, people), chat.New(people, true)} }
	for name, after := range map[string]func(s *sim){
		"over restarts": func(*sim) {},
		"over crashes":  func(s *sim) { renew(s); s.crash() },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				s.stop()
				renew(s)
				s.start()
				one(t, s)
				renew(s)
				s.crash() // in the middle of it all
				kinds := map[string]bool{}
				for _, k := range s.left() {
					kinds[k[:2]] = true
				}
				if len(kinds) < 15 {
					t.Errorf("there are records of %d kinds only: %v", len(kinds), kinds)
				}
				time.Sleep(2 * time.Hour) // the ends of sessions are on disk
				for _, d := range []time.Duration{8 * day, 23 * day, 31 * day, 31 * day} {
					renew(s)
					s.later(d)
					time.Sleep(time.Hour)
					after(s)
					time.Sleep(2 * time.Hour)
				}
				want := []string{`26 "core"`, `2a "chat\x00l"`}
				left := slices.DeleteFunc(s.left(), func(k string) bool { return strings.HasPrefix(k, "31") }) // each start makes one for its time
				if !slices.Equal(left, want) {
					t.Errorf("left is %q, want %q", left, want)
				}
			})
		})
	}
}
