package broker_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// webClient speaks WebSocket frame by frame, to send what no library would.
type webClient struct {
	*testing.T
	nc net.Conn
	r  *bufio.Reader
	in []byte // MQTT bytes of the frames read
}

// openWeb asks for a WebSocket with a list of subprotocols and returns the answer.
func openWeb(t *testing.T, nc net.Conn, protocols string) (*webClient, *http.Response) {
	t.Helper()
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head := "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if protocols != "" {
		head += "Sec-WebSocket-Protocol: " + protocols + "\r\n"
	}
	if _, err := io.WriteString(nc, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	w := &webClient{T: t, nc: nc, r: bufio.NewReader(nc)}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w, res
}

const (
	frameMore   = 0x00
	frameText   = 0x01
	frameBinary = 0x02
	framePing   = 0x09
	frameFin    = 0x80
)

// frame sends one frame, masked with zeros.
func (w *webClient) frame(op byte, payload []byte) {
	w.Helper()
	b := []byte{op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	if _, err := w.nc.Write(append(append(b, 0, 0, 0, 0), payload...)); err != nil {
		w.Fatal(err)
	}
}

// read returns the next MQTT packet, or the error that ended the connection.
func (w *webClient) read() (mqtt.Type, error) {
	for {
		first, _, n, err := mqtt.Frame(w.in, 1<<20)
		if err != nil || n > 0 {
			w.in = w.in[n:]
			return mqtt.Type(first >> 4), err
		}
		var head [2]byte
		if _, err := io.ReadFull(w.r, head[:]); err != nil {
			return 0, err
		}
		size := int(head[1])
		if size >= 126 {
			return 0, fmt.Errorf("a frame of %d bytes", size)
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(w.r, payload); err != nil {
			return 0, err
		}
		switch head[0] & 15 {
		case frameBinary, frameMore:
			w.in = append(w.in, payload...)
		case 8: // close
			return 0, io.EOF
		}
	}
}

func (w *webClient) want(t mqtt.Type) {
	w.Helper()
	if got, err := w.read(); got != t || err != nil {
		w.Fatalf("got %v, %v, want %v", got, err, t)
	}
}

// certified is a TLS configuration with a certificate of its own.
func certified(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// MQTT over WebSocket and secure WebSocket [MQTT-6.0.0]: packets and frames are
// cut independently, and only binary frames are taken.
func TestWebSocket(t *testing.T) {
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			b, _ := start(t, broker.Config{TLS: certified(t)})
			addr, err := b.Listen(scheme + "://127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			open := func(t *testing.T, protocols string) (*webClient, *http.Response) {
				nc, err := net.Dial("tcp", addr.String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { nc.Close() })
				if scheme == "wss" {
					nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its own certificate
				}
				return openWeb(t, nc, protocols)
			}
			connect := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "c", CleanStart: true})
			ping := mqtt.AppendPingreq(nil)
			for _, row := range []struct{ asked, got string }{{"mqtt", "mqtt"}, {"soap, mqtt", "mqtt"}, {"mqttv3.1", "mqttv3.1"}} {
				if _, res := open(t, row.asked); res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Protocol") != row.got {
					t.Errorf("asked for %q: %s, %q", row.asked, res.Status, res.Header.Get("Sec-WebSocket-Protocol"))
				}
			}
			for _, asked := range []string{"", "soap"} {
				if _, res := open(t, asked); res.StatusCode != http.StatusBadRequest {
					t.Errorf("asked for %q: %s", asked, res.Status)
				}
			}
			for _, row := range []struct {
				name string
				send func(w *webClient)
			}{
				{"a packet a frame", func(w *webClient) { w.frame(frameFin|frameBinary, connect); w.frame(frameFin|frameBinary, ping) }},
				{"two packets in a frame", func(w *webClient) { w.frame(frameFin|frameBinary, append(append([]byte{}, connect...), ping...)) }},
				{"a packet over frames of one byte", func(w *webClient) {
					for _, b := range append(append([]byte{}, connect...), ping...) {
						w.frame(frameFin|frameBinary, []byte{b})
					}
				}},
				{"a message in fragments, with a ping between", func(w *webClient) {
					w.frame(frameBinary, connect[:5])
					w.frame(frameFin|framePing, []byte("?"))
					w.frame(frameMore, connect[5:])
					w.frame(frameFin|frameMore, ping)
				}},
				{"an empty frame", func(w *webClient) {
					w.frame(frameFin|frameBinary, nil)
					w.frame(frameFin|frameBinary, append(append([]byte{}, connect...), ping...))
				}},
			} {
				t.Run(row.name, func(t *testing.T) {
					w, _ := open(t, "mqtt")
					row.send(w)
					w.want(mqtt.CONNACK)
					w.want(mqtt.PINGRESP)
				})
			}
			t.Run("a text frame ends it", func(t *testing.T) {
				w, _ := open(t, "mqtt")
				w.frame(frameFin|frameBinary, connect)
				w.want(mqtt.CONNACK)
				w.frame(frameFin|frameText, ping)
				if got, err := w.read(); err == nil {
					t.Errorf("got %v", got)
				}
			})
			t.Run("what is wrong ends it within a frame of 1 TB that never comes", func(t *testing.T) {
				for range 10 { // it depends on who comes first: the end, or the last read
					w, _ := open(t, "mqtt")
					w.nc.Write(append([]byte{frameFin | frameBinary, 0xff, 0, 0, 1, 0, 0, 0, 0, 0}, make([]byte, 1<<20)...)) //nolint:errcheck // it may be cut off in between
					for err := error(nil); err == nil; {
						if _, err = w.r.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) {
							t.Error("it is still open")
						}
					}
				}
			})
		})
	}
}

// A WebSocket is opened on /mqtt alone, and for pages of the configured hosts alone; who
// is no browser says no origin. Each refusal is counted.
func TestAWebSocketIsForItsPathAndItsOrigins(t *testing.T) {
	for _, row := range []struct {
		name, path, origin string
		origins            []string
		want               int
	}{
		{"no origin", "/mqtt", "", []string{"map.example.org"}, 101},
		{"a page of the configured host", "/mqtt", "https://map.example.org", []string{"map.example.org"}, 101},
		{"a page of one by pattern", "/mqtt", "https://a.example.org", []string{"*.example.org"}, 101},
		{"a page of another host", "/mqtt", "https://evil.example.com", []string{"map.example.org"}, 403},
		{"a host that only begins like it", "/mqtt", "https://map.example.org.evil.com", []string{"map.example.org"}, 403},
		{"any page where no hosts are configured", "/mqtt", "https://evil.example.com", nil, 101},
		{"another path", "/", "", nil, 404},
		{"a path below", "/mqtt/x", "", nil, 404},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, _ := start(t, broker.Config{Origins: row.origins})
			addr, err := b.Listen("ws://127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String()+row.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
				"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt"} {
				r.Header.Set(k, v)
			}
			if row.origin != "" {
				r.Header.Set("Origin", row.origin)
			}
			res, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != row.want {
				t.Errorf("got %s, want %d", res.Status, row.want)
			}
			if n := b.Stats().ConnectsRefused; (n == 1) != (row.want == 403) {
				t.Errorf("%d refusals are counted", n)
			}
		})
	}
}
