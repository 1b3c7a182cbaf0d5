package broker_test

import (
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

func TestTheFirstPacketMustBeCONNECTAndInTime(t *testing.T) {
	for _, row := range []struct {
		name  string
		bytes []byte
		after time.Duration
	}{
		{"another packet", []byte{0xC0, 0}, 0},
		{"silence", nil, 10 * time.Second},
		{"a CONNECT that never ends", []byte{0x10, 100, 0, 4, 'M'}, 10 * time.Second},
		{"a CONNECT of 256 MB: nothing is allocated for it", []byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				c, began := s.dial(mqtt.V5), time.Now()
				if len(row.bytes) > 0 {
					c.send(row.bytes)
				}
				c.closedIn(time.Minute)
				if took := time.Since(began); took < row.after || took > row.after+time.Second {
					s.t.Errorf("it took %v, want %v", took, row.after)
				}
			})
		})
	}
}

// A keep alive times 1.5 does not overflow: 65,535 s are 27 hours.
func TestTheLongestKeepAliveIsObeyed(t *testing.T) {
	for _, keep := range []uint16{60, 50_000, 65_535} {
		simulate(t, broker.Config{}, func(s *sim) {
			c, began := s.joins(mqtt.V5, "c", func(p *mqtt.Connect) { p.KeepAlive = keep }), time.Now()
			limit := time.Duration(keep) * 1500 * time.Millisecond
			if d := c.closedIn(limit + time.Minute); d.Reason != mqtt.KeepAliveTimeout {
				s.t.Errorf("keep alive %d: got %v", keep, d.Reason)
			}
			if took := time.Since(began); took < limit || took > limit+time.Second {
				s.t.Errorf("keep alive %d: closed after %v, want %v", keep, took, limit)
			}
		})
	}
}

func TestKeepAliveEndsASilentConnectionAndItsWillIsSent(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		for _, v := range versions {
			sub := s.joins(mqtt.V5, "sub", func(p *mqtt.Connect) { p.KeepAlive = 0 })
			sub.subscribe("will", 1)
			c := s.joins(v, "c", func(p *mqtt.Connect) {
				p.KeepAlive, p.Will = 10, &mqtt.Will{Topic: "will", Payload: []byte("gone"), QoS: 1}
			})
			c.stays(time.Minute, 14*time.Second) // a packet in time keeps it, and a keep alive of 0 does
			if d := c.closedIn(time.Minute); v == mqtt.V5 && d.Reason != mqtt.KeepAliveTimeout {
				s.t.Errorf("got %v", d.Reason)
			}
			sub.want("will", "gone")
			sub.quiet()
		}
	})
}

// The server's keep alive holds for whom it is told to: clients of 5 that ask for
// a longer one, or for none.
func TestTheServersKeepAliveIsTheLongest(t *testing.T) {
	cfg := broker.Config{Limits: broker.Limits{ServerKeepAlive: 60}}
	for _, row := range []struct {
		name        string
		v           mqtt.Version
		asked, told uint16
		after       time.Duration
	}{
		{"a longer one", mqtt.V5, 120, 60, 90 * time.Second},
		{"none", mqtt.V5, 0, 60, 90 * time.Second},
		{"a shorter one", mqtt.V5, 20, 0, 30 * time.Second},
		{"a longer one of 3.1.1, which can't be told", mqtt.V311, 120, 0, 180 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			simulate(t, cfg, func(s *sim) {
				c := s.dial(row.v)
				a := c.connect("c", func(p *mqtt.Connect) { p.KeepAlive = row.asked })
				if got := a.ServerKeepAlive; row.told == 0 && got != nil || row.told != 0 && (got == nil || *got != row.told) {
					s.t.Errorf("it was told %v, want %d", got, row.told)
				}
				began := time.Now()
				c.closedIn(time.Hour)
				if took := time.Since(began); took < row.after || took > row.after+time.Second {
					s.t.Errorf("closed after %v, want %v", took, row.after)
				}
			})
		})
	}
}

// Without a will delay the will leaves when the connection is lost; with one,
// when that has passed or the session ends, and not if the client is back before.
func TestAWillWaitsForItsDelay(t *testing.T) {
	hour := func(p *mqtt.Connect) { p.SessionExpiry, p.CleanStart = 3600, false }
	for _, row := range []struct {
		name   string
		change func(*mqtt.Connect)
		delay  uint32
		leave  func(c *client)
		then   func(s *sim) // after 10 s
		sent   bool
		after  time.Duration
	}{
		{"no delay", hour, 0, lose, nil, true, 0},
		{"30 s", hour, 30, lose, nil, true, 30 * time.Second},
		{"30 s of a session that ends with its connection", func(*mqtt.Connect) {}, 30, lose, nil, true, 0},
		{"an hour of a session that ends in 20 s", func(p *mqtt.Connect) { p.SessionExpiry = 20 }, 3600, lose, nil, true, 20 * time.Second},
		{"the client is back", hour, 30, lose, func(s *sim) { s.joins(mqtt.V5, "c", hour) }, false, 0},
		{"the client is back for a new session", hour, 30, lose, func(s *sim) { s.joins(mqtt.V5, "c") }, true, 10 * time.Second},
		{"DISCONNECT", hour, 0, func(c *client) { c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5)) }, nil, false, 0},
		{"DISCONNECT with will", hour, 30, func(c *client) {
			c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{Reason: mqtt.DisconnectWithWill}, mqtt.V5))
		}, nil, true, 30 * time.Second},
		{"a restart of the server counts as a loss", hour, 30, lose, func(s *sim) { s.restart() }, true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				sub := s.joins(mqtt.V5, "sub", lasting, func(p *mqtt.Connect) { p.KeepAlive = 0 })
				sub.subscribe("w", 1)
				c := s.joins(mqtt.V5, "c", row.change, func(p *mqtt.Connect) {
					p.KeepAlive, p.Will = 0, &mqtt.Will{Topic: "w", Payload: []byte("x"), QoS: 1, Delay: row.delay}
				})
				began := time.Now()
				row.leave(c)
				if row.then != nil {
					time.Sleep(10 * time.Second)
					row.then(s)
					if row.after == 0 && row.sent {
						sub = s.joins(mqtt.V5, "sub", lasting, func(p *mqtt.Connect) { p.KeepAlive = 0 })
					}
				}
				first, _, err := sub.next(2 * time.Hour)
				if sent := err == nil && mqtt.Type(first>>4) == mqtt.PUBLISH; sent != row.sent {
					s.t.Fatalf("sent: %v, want %v (%v)", sent, row.sent, err)
				}
				if took := time.Since(began); row.sent && row.after > 0 && (took < row.after || took > row.after+time.Second) {
					s.t.Errorf("sent after %v, want %v", took, row.after)
				}
			})
		})
	}
}

func lose(c *client) { c.nc.Close() }

// A will arrives with all that its properties said, and its expiry counts from
// when it is sent [MQTT-3.1.3-9].
func TestAWillKeepsItsProperties(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub := s.joins(mqtt.V5, "sub", func(p *mqtt.Connect) { p.KeepAlive = 0 })
		sub.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "w", QoS: 2, RetainAsPublished: true}}}, mqtt.V5))
		sub.read()
		user := []byte{0x26, 0, 1, 'b', 0, 1, '1', 0x26, 0, 1, 'a', 0, 1, '2'}
		c := s.joins(mqtt.V5, "c", lasting, func(p *mqtt.Connect) {
			p.Will = &mqtt.Will{Topic: "w", Payload: []byte("x"), QoS: 1, Retain: true, Delay: 600, Expiry: 100, HasExpiry: true, Format: 1, HasFormat: true,
				ContentType: "text/plain", ResponseTopic: "answer", Correlation: []byte{1, 2}, User: user}
		})
		c.nc.Close()
		first, body, err := sub.next(time.Hour)
		var m mqtt.Publish
		if err != nil || m.Decode(first, body, mqtt.V5) != nil {
			s.t.Fatalf("no will: %v", err)
		}
		if q := m.Props; !m.Retain || m.QoS != 1 || q.Expiry != 100 || q.Format != 1 || string(q.ContentType) != "text/plain" ||
			string(q.ResponseTopic) != "answer" || string(q.Correlation) != "\x01\x02" || string(q.User) != string(user) {
			s.t.Errorf("got %+v", m)
		}
		late := s.joins(mqtt.V5, "late")
		late.subscribe("w", 1)
		if m := late.want("w", "x"); !m.Retain {
			s.t.Error("the will was to be retained")
		}
	})
}

// The bounds of a session: what CONNECT asked for, what DISCONNECT changed it to,
// and the server's own limit. It counts from the disconnect, also over a restart.
func TestASessionEndsWhenItsExpirySays(t *testing.T) {
	secs := func(n uint32) *uint32 { return &n }
	for _, row := range []struct {
		name    string
		expiry  uint32
		change  *uint32
		restart bool
		lasts   time.Duration
	}{
		{"CONNECT", 100, nil, false, 100 * time.Second},
		{"CONNECT, over a restart", 100, nil, true, 100 * time.Second},
		{"DISCONNECT makes it longer", 100, secs(200), false, 200 * time.Second},
		{"DISCONNECT makes it shorter", 100, secs(50), false, 50 * time.Second},
		{"DISCONNECT ends it", 100, secs(0), false, 0},
		{"the server's limit", 4000, nil, false, time.Hour},
		{"the server's limit of what never ends", mqtt.NeverExpires, nil, false, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			simulate(t, broker.Config{Limits: broker.Limits{SessionExpiry: time.Hour}}, func(s *sim) {
				comes := func() (*client, bool) {
					c := s.dial(mqtt.V5)
					return c, c.connect("c", func(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry, p.KeepAlive = false, row.expiry, 0 }).SessionPresent
				}
				c, _ := comes()
				c.subscribe("x", 1)
				for _, wait := range []time.Duration{row.lasts - 2*time.Second, row.lasts + 2*time.Second} {
					if wait < 0 {
						continue
					}
					c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{SessionExpiry: row.change}, mqtt.V5))
					c.closed()
					if row.restart {
						s.restart()
					}
					time.Sleep(wait)
					var present bool
					if c, present = comes(); present != (wait < row.lasts) {
						s.t.Fatalf("after %v: the session is present: %v", wait, present)
					}
				}
				p := s.joins(mqtt.V5, "p")
				p.publish("x", "1", 1, 1)
				p.wantAck(mqtt.PUBACK, 1)
				c.quiet() // the subscriptions went with the session
			})
		})
	}
}

// [MQTT-3.14.2-2]
func TestDISCONNECTMustNotGiveAnExpiryToASessionThatHadNone(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		hour := uint32(3600)
		c := s.joins(mqtt.V5, "c")
		c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{SessionExpiry: &hour}, mqtt.V5))
		if d := c.closed(); d.Reason != mqtt.ProtocolError {
			s.t.Errorf("got %v, want ProtocolError", d.Reason)
		}
	})
}

// A message's expiry is counted down wherever it waits: in the queue of an
// offline session, over a restart, and behind a full window. It is looked at in the
// middle of a second: the core's time is that of its last round.
func TestMessageExpiryIsCountedDownWhereverItWaits(t *testing.T) {
	expires := func(secs uint32) func(*mqtt.Publish) {
		return func(p *mqtt.Publish) { p.Props.Expiry, p.Props.HasExpiry = secs, true }
	}
	check := func(s *sim, m *mqtt.Publish, payload string, left uint32) {
		s.t.Helper()
		if string(m.Payload) != payload || !m.Props.HasExpiry || m.Props.Expiry != left {
			s.t.Fatalf("got %q with %d s left, want %q with %d", m.Payload, m.Props.Expiry, payload, left)
		}
	}
	idle := func(p *mqtt.Connect) { p.KeepAlive = 0 }
	for _, qos := range []byte{1, 2} {
		simulate(t, broker.Config{}, func(s *sim) {
			sub := s.joins(mqtt.V5, "sub", lasting, idle)
			sub.subscribe("x", qos)
			sub.nc.Close()
			p := s.joins(mqtt.V5, "p", idle)
			sent := time.Now()
			at := func(after time.Duration) { time.Sleep(time.Until(sent.Add(after))) }
			for i, secs := range []uint32{100, 20, 100} {
				p.publish("x", string(rune('a'+i)), 1, uint16(i+1), expires(secs))
				p.wantAck(mqtt.PUBACK, uint16(i+1))
			}
			at(20 * time.Second)
			s.restart()
			at(40*time.Second + 500*time.Millisecond)
			sub = s.joins(mqtt.V5, "sub", lasting, idle, func(p *mqtt.Connect) { p.ReceiveMaximum = 1 })
			first := sub.message()
			check(s, first, "a", 60)
			at(70*time.Second + 500*time.Millisecond) // the next one waits behind a window of 1
			sub.ack(mqtt.PUBACK, first.ID)
			check(s, sub.message(), "c", 30) // b expired
		})
	}
	simulate(t, broker.Config{}, func(s *sim) { // and what is retained
		p := s.joins(mqtt.V5, "p", idle)
		p.publish("r/a", "x", 1, 1, retain, expires(100))
		p.publish("r/b", "x", 1, 2, retain, expires(20))
		p.publish("r/c", "forever", 1, 3, retain)
		time.Sleep(40*time.Second + 500*time.Millisecond)
		sub := s.joins(mqtt.V5, "sub")
		sub.subscribe("r/#", 1)
		check(s, sub.want("r/a", "x"), "x", 60)
		time.Sleep(time.Hour)
		sub = s.joins(mqtt.V5, "sub")
		sub.subscribe("r/#", 1)
		if m := sub.want("r/c", "forever"); m.Props.HasExpiry {
			s.t.Errorf("an expiry of %d s was made up", m.Props.Expiry)
		}
	})
}
