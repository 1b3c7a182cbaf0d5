package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/geocast/geocast/mqtt"
)

// large is a payload near the largest packet that geocast takes by default.
const large = 200 << 10

// Strains are ways to make a broker hold much, each alone. They are the ones that are
// known to have been dangerous to a broker; scale is 1 for as many clients as told, and
// less for tests.
func Strains(scale float64) []Strain {
	n := func(clients int) int { return max(int(float64(clients)*scale), 2) }
	all := []Strain{}
	add := func(name string, run func(s *straining)) {
		all = append(all, Strain{Name: name, Transport: "tcp", run: run})
	}
	for qos := byte(0); qos <= 2; qos++ {
		to := fmt.Sprintf("%d publishers of 200 KB at QoS %d to ", n(200), qos)
		add(to+"nobody", func(s *straining) { s.flood(n(200), flood{size: large, qos: qos}) })
		add(to+"a lasting reader", func(s *straining) {
			s.readers(1, "flood/#", 2, true)
			s.flood(n(200), flood{size: large, qos: qos})
		})
		add(to+"20 that don't read", func(s *straining) {
			s.stalled(20, "flood/#", 2, false)
			s.flood(n(200), flood{size: large, qos: qos})
		})
		add(to+"20 lasting that don't read", func(s *straining) {
			s.stalled(20, "flood/#", 2, true)
			s.flood(n(200), flood{size: large, qos: qos})
		})
		add(to+"retained topics", func(s *straining) { s.flood(n(200), flood{size: large, qos: qos, retain: true}) })
	}
	add("16 publishers of 200 KB at QoS 1 to a lasting reader", func(s *straining) {
		s.readers(1, "flood/#", 2, true)
		s.flood(16, flood{size: large, qos: 1})
	})
	add(fmt.Sprintf("%d publishers of 1 KB at QoS 1 to 200 that don't read", n(1000)), func(s *straining) {
		s.stalled(200, "flood/#", 1, false)
		s.flood(n(1000), flood{size: 1000, qos: 1})
	})
	add(fmt.Sprintf("%d publishers to a topic each, none of whose subscribers reads", n(1000)), func(s *straining) {
		s.each(n(1000), func(i int) { s.ownTopic(i, false) })
		s.flood(n(1000), flood{size: 20_000, qos: 1})
	})
	add(fmt.Sprintf("%d sessions with wills of 60 KB", n(5000)), func(s *straining) { s.wills(n(5000), 60_000, 0, false) })
	add(fmt.Sprintf("%d lasting sessions with wills of 190 KB", n(5000)), func(s *straining) { s.wills(n(5000), 60_000, 2, true) })
	add(fmt.Sprintf("%d lasting sessions with a page each that don't read", n(10_000)), func(s *straining) {
		s.stalled(n(10_000), "flood/#", 1, true)
		s.flood(1, flood{size: 60_000, qos: 1, most: 10})
	})
	for _, transport := range []string{"tcp", "tls", "ws"} {
		k := map[string]int{"tcp": 5000, "tls": 2000, "ws": 3000}[transport]
		over := map[string]string{"tcp": "", "tls": " over TLS", "ws": " over WebSocket"}[transport]
		add(fmt.Sprintf("%d half packets of 256 KB%s", n(k), over), func(s *straining) { s.halves(n(k)) })
		add(fmt.Sprintf("%d half packets before CONNECT%s", n(k), over), func(s *straining) { s.halvesBefore(n(k)) })
		if transport != "tcp" {
			add(fmt.Sprintf("%d publishers of 200 KB at QoS 1 to a lasting reader%s", n(200), over), func(s *straining) {
				s.readers(1, "flood/#", 2, true)
				s.flood(n(200), flood{size: large, qos: 1})
			})
			all[len(all)-1].Transport = transport
			add(fmt.Sprintf("%d publishers to a topic each, none of whose subscribers reads%s", n(500), over), func(s *straining) {
				s.each(n(500), func(i int) { s.ownTopic(i, false) })
				s.flood(n(500), flood{size: 20_000, qos: 1})
			})
			all[len(all)-1].Transport = transport
			all[len(all)-3].Transport, all[len(all)-4].Transport = transport, transport
		}
	}
	add(fmt.Sprintf("%d clients with 1,000 filters of 500 B", n(2000)), func(s *straining) { s.filters(n(2000), false) })
	add(fmt.Sprintf("%d lasting clients with 1,000 filters of 500 B", n(2000)), func(s *straining) { s.filters(n(2000), true) })
	add(fmt.Sprintf("%d clients that never release a QoS 2 identifier", n(2000)), func(s *straining) {
		s.flood(n(2000), flood{size: 10, qos: 2, keepID: true})
	})
	for qos := byte(0); qos <= 2; qos++ {
		add(fmt.Sprintf("1 publisher of 200 KB at QoS %d to %d readers", qos, n(10_000)), func(s *straining) {
			s.readers(n(10_000), "flood/#", qos, false)
			s.flood(1, flood{size: large, qos: qos})
		})
	}
	add(fmt.Sprintf("1 publisher of 200 KB at QoS 1 to %d lasting readers", n(10_000)), func(s *straining) {
		s.readers(n(10_000), "flood/#", 1, true)
		s.flood(1, flood{size: large, qos: 1})
	})
	add(fmt.Sprintf("%d chat messages of 100 KB at a time to as many inboxes", n(200)), func(s *straining) {
		s.flood(n(200), flood{topic: func(i int) string { return fmt.Sprintf("users/u%d/chat", rand.IntN(10_000)) }, qos: 1, //nolint:gosec // any
			user: true, payload: fmt.Appendf(nil, `{"body":{"text":%q}}`, strings.Repeat("x", 100_000))})
	})
	add("50 shared groups of 20 slow members", func(s *straining) {
		s.each(1000, func(i int) {
			if c, err := s.client(fmt.Sprintf("member-%d", i)); err == nil {
				c.subscribe(fmt.Sprintf("$share/g%d/flood/#", i%50), 2) //nolint:errcheck // it may be refused
			}
		})
		s.flood(n(50), flood{size: large, qos: 1})
	})
	add(fmt.Sprintf("%d clients with all topic aliases of 4 KB", n(3000)), func(s *straining) { s.aliases(n(3000)) })
	add(fmt.Sprintf("%d publishers of 20,000 user properties", n(200)), func(s *straining) {
		s.stalled(20, "flood/#", 1, false)
		var user []byte
		for range 20_000 {
			user = append(user, 0x26, 0, 1, 'k', 0, 2, 'v', 'v')
		}
		s.flood(n(200), flood{size: 10, qos: 1, user5: user})
	})
	return all
}

// flood is what publishers send as fast as the broker takes it.
type flood struct {
	size    int
	payload []byte // instead of size
	qos     byte
	retain  bool
	keepID  bool // PUBREC is not answered
	user    bool // sign in as a user
	user5   []byte
	most    int // packets, 0 for any number
	topic   func(i int) string
}

// flood starts n publishers.
func (s *straining) flood(n int, f flood) {
	if f.payload == nil {
		f.payload = make([]byte, max(f.size, 8))
	}
	s.again(n, func(i int) { s.pour(i, &f) })
}

// pour is one connection of a flood.
func (s *straining) pour(i int, f *flood) {
	version := mqtt.V311
	if f.user5 != nil {
		version = mqtt.V5
	}
	c, err := s.client(fmt.Sprintf("flood-%d", i), func(p *mqtt.Connect) {
		p.Version, p.CleanStart = version, !f.keepID
		if f.keepID {
			p.SessionExpiry = mqtt.NeverExpires
		}
		if f.user {
			p.HasUsername, p.Username = true, fmt.Sprintf("u%d", i)
		}
	})
	if err != nil {
		return
	}
	var mu sync.Mutex
	if !f.keepID {
		go s.acknowledge(c, &mu)
	}
	var packet []byte
	for k := 0; (f.most == 0 || k < f.most) && s.ctx.Err() == nil; k++ {
		topic := fmt.Sprintf("flood/%d", i)
		if f.topic != nil {
			topic = f.topic(i)
		}
		if f.retain {
			topic += fmt.Sprintf("/%d", k)
		}
		p := mqtt.Publish{Topic: []byte(topic), Payload: f.payload, QoS: f.qos, Retain: f.retain}
		p.Props.User = f.user5
		if f.qos > 0 {
			p.ID = uint16(k%65_000) + 1
		}
		packet = mqtt.AppendPublish(packet[:0], &p, version)
		mu.Lock()
		_, err := c.nc.Write(packet)
		mu.Unlock()
		if err != nil {
			break
		}
		s.sent.Add(1)
	}
	if f.most > 0 {
		<-s.ctx.Done()
	}
	s.lost(c.nc, nil) //nolint:errcheck // noted
}

// ownTopic is a subscriber of one publisher's topic that does not read.
func (s *straining) ownTopic(i int, lasting bool) {
	c, err := s.client(fmt.Sprintf("own-%d", i), lasts(lasting))
	if err == nil {
		c.subscribe(fmt.Sprintf("flood/%d", i), 1) //nolint:errcheck // it may be refused
	}
}

// wills are sessions that leave a large will; user properties make it larger.
func (s *straining) wills(n, size, props int, lasting bool) {
	s.each(n, func(i int) {
		s.client(fmt.Sprintf("will-%d", i), func(p *mqtt.Connect) { //nolint:errcheck // it may be refused
			p.Version = mqtt.V5
			if lasting {
				p.SessionExpiry = mqtt.NeverExpires
			}
			p.Will = &mqtt.Will{Topic: "will", Payload: make([]byte, size), QoS: 1}
			for range props {
				p.Will.User = append(p.Will.User, 0x26, 0, 1, 'k', 0xea, 0x60)
				p.Will.User = append(p.Will.User, slices.Repeat([]byte("v"), 60_000)...)
			}
		})
	})
}

// halves are clients that send half of the largest packet.
func (s *straining) halves(n int) {
	half := mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("half"), Payload: make([]byte, 255<<10)}, mqtt.V311)[:128<<10]
	s.each(n, func(i int) {
		c, err := s.client(fmt.Sprintf("half-%d", i))
		if err == nil {
			s.push(c, half)
		}
	})
}

// push writes in the background, since the broker may let a client wait, and notes
// the end.
func (s *straining) push(c *conn, b []byte) {
	go func() {
		if _, err := c.nc.Write(b); err != nil {
			s.lost(c.nc, err) //nolint:errcheck // noted
			return
		}
		eachHead(c.nc, nil, make([]byte, 64), func(byte, []byte) error { return nil }) //nolint:errcheck // noted
		s.lost(c.nc, nil)                                                              //nolint:errcheck // noted
	}()
}

func (s *straining) halvesBefore(n int) {
	p := &mqtt.Connect{Version: mqtt.V5, ClientID: "half", CleanStart: true, Will: &mqtt.Will{Topic: "will", Payload: make([]byte, 60_000)}}
	for range 3 {
		p.Will.User = append(p.Will.User, 0x26, 0, 1, 'k', 0xea, 0x60)
		p.Will.User = append(p.Will.User, slices.Repeat([]byte("v"), 60_000)...)
	}
	whole := mqtt.AppendConnect(nil, p)
	s.each(n, func(int) {
		if nc, err := s.transport(); err == nil {
			s.push(&conn{nc: nc}, whole[:len(whole)-1])
		}
	})
}

// filters are clients that subscribe to as many long filters as they may.
func (s *straining) filters(n int, lasting bool) {
	long := strings.Repeat("x", 480)
	s.each(n, func(i int) {
		c, err := s.client(fmt.Sprintf("filters-%d", i), lasts(lasting))
		if err != nil {
			return
		}
		for k := range 4 {
			p := &mqtt.Subscribe{ID: 1}
			for j := range 250 {
				p.Filters = append(p.Filters, mqtt.Subscription{Filter: fmt.Sprintf("f/%d/%d/%s", i, 250*k+j, long), QoS: 1})
			}
			if err := c.request(mqtt.AppendSubscribe(nil, p, mqtt.V311), mqtt.SUBACK); err != nil {
				s.lost(c.nc, err) //nolint:errcheck // noted
				return
			}
		}
	})
}

// aliases are clients that give each topic alias a long topic.
func (s *straining) aliases(n int) {
	s.each(n, func(i int) {
		c, err := s.client(fmt.Sprintf("alias-%d", i), func(p *mqtt.Connect) { p.Version, p.TopicAliasMaximum = mqtt.V5, 65535 })
		if err != nil {
			return
		}
		for k := range 16 {
			p := mqtt.Publish{Topic: fmt.Appendf(nil, "%d/%d/%s", i, k, strings.Repeat("x", 4000)), Payload: []byte("x"), Props: mqtt.PublishProps{Alias: uint16(k + 1)}}
			if _, err := c.nc.Write(mqtt.AppendPublish(nil, &p, mqtt.V5)); err != nil {
				s.lost(c.nc, err) //nolint:errcheck // noted
				return
			}
		}
	})
}
