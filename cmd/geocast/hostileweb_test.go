package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// upgrade asks for a WebSocket, with further headers.
func upgrade(more string) string {
	return "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + more + "\r\n"
}

// frame is a WebSocket frame as a client sends it, masked with zeros; fin, reserved
// bits and kind are in first.
func frame(first byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(len(payload)))
	return append(append(b, 0, 0, 0, 0), payload...)
}

// The first bytes of frames.
const (
	fin      = 0x80
	binFrame = fin | 2
	ping     = fin | 9
)

// webConn sends what is written in binary frames of its own.
type webConn struct{ net.Conn }

func (w *webConn) Write(b []byte) (int, error) {
	if _, err := w.Conn.Write(frame(binFrame, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// webAttacks are requests and frames, on the ports that take them.
func webAttacks() []attack {
	return append(append([]attack{}, requests()...), frames()...)
}

func web(p port) bool { return p.web || p.admin }

// requests are HTTP that is wrong, long, slow or without an end.
func requests() []attack {
	refused := func(name, text string) attack {
		return attack{name, web, func(a *attacker, p port) {
			nc := p.open(a)
			a.send(nc, []byte(text))
			r, err := http.ReadResponse(bufio.NewReader(nc), nil)
			switch {
			case err != nil:
				a.isCut(nc)
			case r.StatusCode < 400:
				a.t.Errorf("%s: %s", a.what, r.Status)
			}
		}}
	}
	last := "Connection: close\r\n\r\n"
	return []attack{
		{"nothing", web, func(a *attacker, p port) { a.isCut(p.open(a)) }},
		refused("no HTTP", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\r\n\r\n"),
		refused("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		refused("a page that is not there", "GET /etc/passwd HTTP/1.1\r\nHost: x\r\n"+last),
		refused("a WebSocket of nothing", strings.ReplaceAll(strings.TrimSuffix(upgrade(last), "\r\n"), "Connection: Upgrade\r\n", "")),
		refused("a WebSocket without a subprotocol", upgrade("")),
		refused("a WebSocket of soap", upgrade("Sec-WebSocket-Protocol: soap\r\n")),
		refused("a WebSocket without a key", strings.ReplaceAll(upgrade("Sec-WebSocket-Protocol: mqtt\r\n"), "Sec-WebSocket-Key", "X")),
		refused("a WebSocket of version 99", strings.ReplaceAll(upgrade("Sec-WebSocket-Protocol: mqtt\r\n"), "Version: 13", "Version: 99")),
		refused("a WebSocket by POST", strings.Replace(upgrade("Sec-WebSocket-Protocol: mqtt\r\n"), "GET", "POST", 1)),
		refused("a header of 1 MB", "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("y", 1<<20)+"\r\n\r\n"),
		refused("100,000 headers", "GET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X: y\r\n", 100_000)+"\r\n"),
		refused("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
		refused("a body without end", "POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"+strings.Repeat("x", 1<<20)),
		refused("a chunk of nonsense", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
		refused("a profile for ever", "GET /debug/pprof/profile?seconds=1000000000 HTTP/1.1\r\nHost: x\r\n"+last),
		{"a header a letter at a time", web, func(a *attacker, p port) {
			nc := p.open(a)
			end := time.Now().Add(patience)
			for n := 0; time.Now().Before(end); n++ {
				if _, err := io.WriteString(nc, [...]string{"GET / HTTP/1.1\r\nX", ": ", "y", "\r\nX"}[min(n, 3)]); err != nil {
					return
				}
				nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) //nolint:errcheck // then it is faster
				if _, err := nc.Read(make([]byte, 1)); err == io.EOF {     //nolint:errorlint // as it is
					return
				}
			}
			a.t.Errorf("%s: it is not cut off", a.what)
		}},
		{"a thousand questions, no answer is read", web, func(a *attacker, p port) {
			nc := p.open(a)
			nc.SetDeadline(time.Now().Add(time.Second)) //nolint:errcheck // it will not be read from for longer
			a.send(nc, []byte(strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000)))
		}},
	}
}

// frames are WebSocket frames that are against RFC 6455, or come without end.
func frames() (all []attack) {
	connect := hello(mqtt.V311, "frames")
	cut := func(name string, send ...[]byte) {
		all = append(all, attack{name, func(p port) bool { return p.web }, func(a *attacker, p port) {
			nc := p.open(a)
			a.send(nc, []byte(upgrade("Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")))
			for _, b := range send {
				a.send(nc, b)
			}
			a.isCut(nc)
		}})
	}
	unmasked := append([]byte{binFrame, byte(len(connect))}, connect...)
	cut("no frame at all")
	cut("an unmasked frame", unmasked)
	cut("a text frame", frame(fin|1, connect))
	cut("a compressed frame", frame(binFrame|0x40, connect))
	cut("all reserved bits", frame(binFrame|0x70, connect))
	cut("an unknown kind of frame", frame(fin|5, connect))
	cut("an unknown kind of control frame", frame(fin|0xb, nil))
	cut("a frame of 2^63 bytes", []byte{binFrame, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3})
	cut("a frame of 2^63-1 bytes", []byte{binFrame, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3})
	cut("a frame of 1 TB of zeros", []byte{binFrame, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 1<<20))
	cut("a frame of 1 TB, of which 300 bytes come", []byte{binFrame, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 300))
	cut("a continuation of nothing", frame(fin, connect))
	cut("a message inside another", frame(2, connect[:3]), frame(binFrame, connect))
	cut("a ping in pieces", frame(9, nil))
	cut("a ping of 64 KB", frame(ping, make([]byte, 64<<10)))
	cut("half a head", []byte{binFrame})
	cut("a close, then more", frame(fin|8, []byte{3, 232}), frame(binFrame, connect))
	cut("a close of one byte", frame(fin|8, []byte{3}))
	cut("a close with a reason that is no text", frame(fin|8, []byte{3, 232, 0xff, 0xfe}))
	cut("pings between the letters of a CONNECT that never ends", func() (b []byte) {
		for _, c := range connect[:len(connect)-1] {
			b = append(append(b, frame(binFrame, []byte{c})...), frame(ping, []byte("?"))...)
		}
		return b
	}())
	cut("empty frames, a hundred thousand", []byte(strings.Repeat(string(frame(binFrame, nil)), 100_000)))
	all = append(all, attack{"pings without end, no pong is read", func(p port) bool { return p.web }, func(a *attacker, p port) {
		nc := p.open(a)
		a.send(nc, []byte(upgrade("Sec-WebSocket-Protocol: mqtt\r\n")))
		many := []byte(strings.Repeat(string(frame(ping, make([]byte, 125))), 1000))
		for range 1000 {
			if _, err := nc.Write(many); err != nil {
				a.hungUp(err)
				return
			}
		}
		a.t.Errorf("%s: 125 MB of pings are taken", a.what)
	}}, attack{"a conversation in frames of all sizes", func(p port) bool { return p.web }, func(a *attacker, p port) {
		nc := a.enter(p)
		a.send(nc, mutate(a.rnd, conversation(mqtt.V5, fmt.Sprint("sizes", a.rnd.IntN(9)))))
		a.isHeard(nc)
	}})
	return all
}
