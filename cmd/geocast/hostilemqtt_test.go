package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"

	"github.com/geocast/geocast/mqtt"
)

// enter is a connection on which MQTT is spoken: on the web ports in WebSocket.
func (a *attacker) enter(p port) net.Conn {
	nc := p.open(a)
	if p.web {
		w := &webConn{Conn: nc}
		io.WriteString(nc, upgrade("Sec-WebSocket-Protocol: mqtt\r\n")) //nolint:errcheck // it may be cut off
		return w
	}
	return nc
}

// speaksMQTT holds at the ports that do.
func speaksMQTT(p port) bool { return !p.admin }

// send sends some bytes, in pieces; the server may hang up meanwhile.
func (a *attacker) send(nc net.Conn, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1+a.rnd.IntN(300)*a.rnd.IntN(300))
		if _, err := nc.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// hello is a CONNECT that is taken, without a keep alive.
func hello(v mqtt.Version, id string) []byte {
	return mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, ClientID: id, CleanStart: true, ReceiveMaximum: 65535})
}

// mqttAttacks are bytes that begin no conversation, or break one.
func mqttAttacks() (all []attack) {
	for name, b := range map[string]string{
		"one zero":                        "\x00",
		"HTTP":                            "GET / HTTP/1.1\r\n\r\n",
		"a TLS hello":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a length of five bytes":          "\x10\xff\xff\xff\xff\x7f",
		"a CONNECT of 256 MB":             "\x10\xff\xff\xff\x7f\x00\x04MQTT",
		"PINGREQ first":                   "\xc0\x00",
		"PUBLISH first":                   "\x30\x03\x00\x01a",
		"another protocol":                "\x10\x0c\x00\x04MQRR\x04\x02\x00\x3c\x00\x00",
		"level 99":                        "\x10\x0c\x00\x04MQTT\x63\x02\x00\x3c\x00\x00",
		"a CONNECT that promises a name":  "\x10\x0c\x00\x04MQTT\x04\x82\x00\x3c\x00\x00",
		"a CONNECT without an end":        "\x10\x0c\x00\x04MQTT",
		"a property without an end":       "\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\xff\xff\xff\xff\x7f\x00\x00",
		"a reserved type":                 "\xf0\x00",
		"64 KB of ones":                   strings.Repeat("\xff", 64<<10),
		"1 MB of zeros":                   strings.Repeat("\x00", 1<<20),
		"a connect, then nothing but NUL": string(hello(mqtt.V311, "nul")) + strings.Repeat("\x00", 1000),
		"two CONNECTs":                    strings.Repeat(string(hello(mqtt.V5, "twice")), 2),
		"a server's packets":              string(hello(mqtt.V5, "server")) + "\x20\x03\x00\x00\x00\x90\x03\x00\x01\x00",
		"a truncated SUBSCRIBE":           string(hello(mqtt.V311, "cut")) + "\x82\x05\x00\x01\x00\x09a",
		"a SUBSCRIBE without a filter":    string(hello(mqtt.V5, "none")) + "\x82\x03\x00\x01\x00",
		"QoS 3":                           string(hello(mqtt.V311, "three")) + "\x36\x05\x00\x01a\x00\x01",
		"alias 0":                         string(hello(mqtt.V5, "alias")) + "\x30\x06\x00\x00\x03\x23\x00\x00",
		"a topic with a wildcard":         string(hello(mqtt.V311, "wild")) + "\x30\x03\x00\x01#",
		"AUTH":                            string(hello(mqtt.V5, "auth")) + "\xf0\x02\x18\x00",
		"a PUBLISH of 200 MB":             string(hello(mqtt.V311, "large")) + "\x30\x80\x80\x80\x64" + strings.Repeat("x", 100<<10),
	} {
		all = append(all, attack{name, speaksMQTT, func(a *attacker, p port) {
			nc := a.enter(p)
			a.send(nc, []byte(b))
			a.isCut(nc)
		}})
	}
	slices.SortFunc(all, func(x, y attack) int { return strings.Compare(x.name, y.name) })
	silence := func(name string, b []byte) attack {
		return attack{name, speaksMQTT, func(a *attacker, p port) {
			nc := a.enter(p)
			a.send(nc, b)
			a.isCut(nc) // by the time that CONNECT may take, or 1.5 times its keep alive
		}}
	}
	soon := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "soon", CleanStart: true, KeepAlive: 1})
	return append(all,
		silence("nothing at all", nil),
		silence("a CONNECT, then half a packet", append(soon, 0x30, 0x7f, 0)),
		attack{"a question a microsecond, and no answer is read", speaksMQTT, func(a *attacker, p port) {
			nc := a.enter(p)
			pings := bytes.Repeat(mqtt.AppendPingreq(nil), 32<<10)
			a.send(nc, hello(mqtt.V311, "greedy"+p.name))
			for range 20 {
				if _, err := nc.Write(pings); err != nil {
					a.hungUp(err)
					return
				}
			}
			a.isHeard(nc)
		}},
		attack{"10,000 filters", speaksMQTT, func(a *attacker, p port) {
			s := &mqtt.Subscribe{ID: 1}
			for i := range 10_000 {
				s.Filters = append(s.Filters, mqtt.Subscription{Filter: strings.Repeat("+/", i%100) + "#", QoS: 2})
			}
			nc := a.enter(p)
			a.send(nc, mqtt.AppendSubscribe(hello(mqtt.V5, "filters"), s, mqtt.V5))
			a.isHeard(nc)
		}},
	)
}

// conversation is what a client of a level says in one connection: all packets, with
// fixes, chat and a will.
func conversation(v mqtt.Version, id string) (packets [][]byte) {
	add := func(b []byte) { packets = append(packets, b) }
	add(mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, ClientID: id, CleanStart: true, KeepAlive: 1, HasUsername: true, Username: "eve",
		SessionExpiry: 5, ReceiveMaximum: 9, TopicAliasMaximum: 3, UserProps: []mqtt.UserProp{{Key: "k", Value: "v"}},
		Will: &mqtt.Will{Topic: "wills/" + id, Payload: []byte("gone"), QoS: 1, Retain: true, Delay: 1, ContentType: "text/plain"}}))
	add(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, SubID: 7, Filters: []mqtt.Subscription{{Filter: "t/+", QoS: 2}, {Filter: "$share/g/s/#", QoS: 1},
		{Filter: "users/eve/inbox", QoS: 1}}}, v))
	publish := func(topic, payload string, qos byte, id uint16) {
		p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, ID: id, Retain: id%2 == 1}
		if v == mqtt.V5 {
			p.Props.Alias, p.Props.Expiry, p.Props.HasExpiry = 1+id%3, 60, true
			p.Props.User = mqtt.AppendUserProp(nil, mqtt.UserProp{Key: "k", Value: "v"})
		}
		add(mqtt.AppendPublish(nil, p, v))
	}
	publish("t/a", "hello", 0, 0)
	publish("t/b", "hello", 1, 2)
	publish("t/c", strings.Repeat("long ", 1000), 2, 3)
	add(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBREL, ID: 3}, v))
	publish("users/eve/location", `{"lat":48.2,"lon":16.37,"tst":1790000000}`, 1, 4)
	publish("owntracks/eve/phone", `[{"_type":"location","lat":48.25,"lon":16.37,"tst":1790000060}]`, 1, 6)
	publish("users/eve/location", "\xa3\x63lat\xfb\x40\x48\x19\x99\x99\x99\x99\x9a\x63lon\x10\x63tst\x1a\x6a\xb1\x3b\x80", 2, 8)
	publish("users/ann/chat/message-1", "hello", 1, 10)
	for t := mqtt.PUBACK; t <= mqtt.PUBCOMP; t++ {
		add(mqtt.AppendAck(nil, mqtt.Ack{Type: t, ID: 1}, v))
	}
	add(mqtt.AppendPingreq(nil))
	add(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 9, Filters: []string{"t/+"}}, v))
	add(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{Reason: 4}, v))
	return packets
}

// mutate changes a conversation in a few places.
func mutate(r *rand.Rand, packets [][]byte) []byte {
	packets = slices.Clone(packets)
	for range r.IntN(3) {
		i, k := r.IntN(len(packets)), r.IntN(len(packets))
		switch r.IntN(3) {
		case 0:
			packets[i], packets[k] = packets[k], packets[i]
		case 1:
			packets = slices.Delete(packets, i, i+1)
		case 2:
			packets = slices.Insert(packets, i, packets[k])
		}
	}
	b := slices.Concat(packets...)
	for n := r.IntN(6); n > 0 && len(b) > 0; n-- {
		at := r.IntN(len(b))
		if r.IntN(2) == 0 {
			at = r.IntN(min(len(b), 120)) // the beginning is where most is decided
		}
		switch r.IntN(5) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = [...]byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 2:
			b = slices.Insert(b, at, byte(r.Uint32()))
		case 3:
			b = slices.Delete(b, at, min(len(b), at+1+r.IntN(4)))
		case 4:
			b = b[:at+1]
		}
	}
	return b
}

// mutations are n conversations of each level that were changed at random.
func mutations(n int) (all []attack) {
	for i := range n {
		v := [...]mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}[i%3]
		all = append(all, attack{"a changed conversation", speaksMQTT, func(a *attacker, p port) {
			nc := a.enter(p)
			a.send(nc, mutate(a.rnd, conversation(v, "eve-"+p.name+string(rune('a'+a.rnd.IntN(26))))))
			a.isHeard(nc)
		}})
	}
	return all
}

// tlsAttacks are bytes below TLS.
func tlsAttacks() []attack {
	below := func(name string, do func(a *attacker, nc net.Conn)) attack {
		return attack{name, func(p port) bool { return p.tls }, func(a *attacker, p port) {
			nc := a.dial(p)
			do(a, nc)
			a.isCut(nc)
		}}
	}
	return []attack{
		below("nothing below TLS", func(*attacker, net.Conn) {}),
		below("CONNECT without TLS", func(a *attacker, nc net.Conn) { a.send(nc, hello(mqtt.V311, "plain")) }),
		below("noise", func(a *attacker, nc net.Conn) {
			b := make([]byte, 4096)
			for i := range b {
				b[i] = byte(a.rnd.Uint32())
			}
			a.send(nc, b)
		}),
		below("a hello that is cut short", func(a *attacker, nc net.Conn) { h := clientHello(); a.send(nc, h[:1+a.rnd.IntN(len(h)-1)]) }),
		below("a record of 64 KB", func(a *attacker, nc net.Conn) {
			a.send(nc, append([]byte{22, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff}, make([]byte, 64<<10)...))
		}),
		below("a hello of 16 MB in pieces", func(a *attacker, nc net.Conn) {
			for i := range 2000 {
				rec := []byte{22, 3, 1, 0x20, 0, 1, 0xff, 0xff, 0xff}
				if i > 0 {
					rec = rec[:5]
				}
				if _, err := nc.Write(append(rec, make([]byte, 0x2005-len(rec))...)); err != nil {
					return
				}
			}
		}),
		below("empty records without end", func(_ *attacker, nc net.Conn) {
			for range 100 {
				if _, err := nc.Write(bytes.Repeat([]byte{22, 3, 1, 0, 0}, 1000)); err != nil {
					return
				}
			}
		}),
		below("a record that is no one's, after the handshake", func(a *attacker, nc net.Conn) {
			c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its own certificate
			c.Handshake()                                              //nolint:errcheck // then it is cut off
			a.send(nc, append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
		}),
		{"renegotiation", func(p port) bool { return p.tls }, func(a *attacker, p port) {
			if _, err := exec.LookPath("openssl"); err != nil {
				return
			}
			cmd := exec.Command("openssl", "s_client", "-tls1_2", "-connect", p.addr)
			cmd.Stdin = strings.NewReader("R\n")
			if out, err := cmd.CombinedOutput(); err == nil && !bytes.Contains(out, []byte("RENEGOTIATING")) {
				a.t.Errorf("%s: %s", a.what, out)
			}
		}},
	}
}

// clientHello is what a TLS client says first.
func clientHello() []byte {
	near, far := net.Pipe()
	defer far.Close()
	go tls.Client(near, &tls.Config{InsecureSkipVerify: true}).Handshake() //nolint:errcheck,gosec // nobody answers
	head := make([]byte, 5)
	io.ReadFull(far, head) //nolint:errcheck // a pipe
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	io.ReadFull(far, body) //nolint:errcheck // a pipe
	return append(head, body...)
}
